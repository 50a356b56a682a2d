//! Ports that two harnesses on one machine never both choose.
//!
//! The kernel's own ephemeral ports would do until the server listens, but a server is stopped and started again in a
//! drill, and any client connection may take such a port meanwhile. So ports come from below that range, and each is held by
//! a socket in the abstract namespace: it belongs to the same network namespace as the port, the kernel frees it when the
//! process dies, and it needs no file and no permissions.

use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

use super::StackError;

/// Below Linux's default `ip_local_port_range` (32768), above what services usually take.
const FIRST: u16 = 17_000;
/// The end of the range, exclusive.
const END: u16 = 32_000;

/// A port that is this process's until the lease is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _held: UnixListener,
}

impl PortLease {
    /// Leases any free port.
    pub fn any(server: &str) -> Result<PortLease, StackError> {
        let count = u32::from(END - FIRST);
        let start = rand::random_range(0..count);
        for step in 0..count {
            let port = FIRST + ((start + step) % count) as u16;
            if let Ok(lease) = PortLease::of(server, port) {
                return Ok(lease);
            }
        }
        Err(StackError::Port {
            server: server.to_owned(),
            port: FIRST,
            detail: format!("no port from {FIRST} to {END} is free"),
        })
    }

    /// Leases this port.
    pub fn of(server: &str, port: u16) -> Result<PortLease, StackError> {
        let failed = |detail: String| StackError::Port { server: server.to_owned(), port, detail };
        let address =
            SocketAddr::from_abstract_name(format!("cdc-drill-port-{port}")).map_err(|e| failed(e.to_string()))?;
        let held =
            UnixListener::bind_addr(&address).map_err(|_| failed("another cdc-drill has leased it".to_owned()))?;
        check_free(server, "127.0.0.1", port)?;
        Ok(PortLease { port, _held: held })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Requires that nobody listens on the port now.
pub(super) fn check_free(server: &str, host: &str, port: u16) -> Result<(), StackError> {
    match TcpListener::bind((host, port)) {
        Ok(_) => Ok(()),
        // The network that the address belongs to is made again with the container.
        Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => Ok(()),
        Err(e) => Err(StackError::Port { server: server.to_owned(), port, detail: e.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    #[test]
    fn a_port_is_leased_once_and_comes_back() {
        let lease = PortLease::any("test").unwrap();
        let port = lease.port();
        assert!(PortLease::of("test", port).unwrap_err().to_string().contains("leased"));
        drop(lease);
        let _again = PortLease::of("test", port).unwrap();
    }

    #[test]
    fn a_port_somebody_listens_on_is_refused() {
        let strange = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = strange.local_addr().unwrap().port();
        let error = PortLease::of("kafka", port).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert_eq!(error.exit(), cdc_model::units::Exit::StackDidNotStart);
    }
}
