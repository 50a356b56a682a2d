//! Whether two addresses mean one PostgreSQL server.

use std::{
    collections::BTreeSet,
    net::{IpAddr, ToSocketAddrs},
};

use tokio_postgres::config::Host;

use super::{ClientError, postgres::address};
use cdc_model::units::Secret;

/// Where a server listens, as every name that resolves to it.
#[derive(Clone, Debug)]
pub(super) struct ServerAddress {
    port: u16,
    hosts: Vec<String>,
    addresses: BTreeSet<IpAddr>,
}

impl ServerAddress {
    /// Of an address as libpq knows it.
    pub(super) fn of(url: &Secret) -> Result<ServerAddress, ClientError> {
        let parsed = address(url)?;
        let hosts = parsed.get_hosts().iter().filter_map(|host| match host {
            Host::Tcp(name) => Some(name.clone()),
            Host::Unix(_) => None,
        });
        let hosts: Vec<String> = hosts.collect();
        let port = parsed.get_ports().first().copied().unwrap_or(5432);
        let addresses = hosts.iter().flat_map(|h| resolve(h, port)).collect();
        Ok(ServerAddress { port, hosts, addresses })
    }

    /// Whether a host and port, as a connector names them, mean this server.
    pub(super) fn is(&self, host: &str, port: &str) -> bool {
        port.parse() == Ok(self.port)
            && (self.hosts.iter().any(|h| h == host)
                || resolve(host, self.port).iter().any(|a| {
                    self.addresses.contains(a) || (a.is_loopback() && self.addresses.iter().any(IpAddr::is_loopback))
                }))
    }
}

fn resolve(host: &str, port: u16) -> Vec<IpAddr> {
    (host, port).to_socket_addrs().map(|all| all.map(|a| a.ip()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_several_names_and_one_port() {
        let server = ServerAddress::of(&Secret::new("postgres://u@127.0.0.1:7/d")).unwrap();
        assert!(server.is("localhost", "7") && server.is("127.0.0.1", "7"));
        assert!(!server.is("127.0.0.1", "8") && !server.is("192.0.2.1", "7") && !server.is("", "x"));
    }
}
