//! Whether anybody listens at a PostgreSQL address, whoever asks and whatever he may.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_postgres::{Config, config::Host};

use super::limits::asking;

/// The start of a session that asks for TLS, which every server answers with one byte before it asks who is there: length 8, and the
/// number of the request.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const DEFAULT_PORT: u16 = 5432;

/// Whether a server is at one of the hosts of an address. One that takes the connection and says nothing is, as a frozen one does; one
/// that closes it without a word is not: it is a proxy that has no server behind it.
pub(super) async fn is_anybody_at(config: &Config) -> bool {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    for at in 0..names.len().max(addresses.len()).max(1) {
        let ports = config.get_ports();
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        let found = match (addresses.get(at), names.get(at)) {
            (Some(address), _) => on_tcp((*address, port)).await,
            (None, Some(Host::Tcp(name))) => on_tcp((name.as_str(), port)).await,
            (None, Some(Host::Unix(folder))) => {
                connected(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))).await
            }
            (None, None) => on_tcp(("localhost", port)).await,
        };
        if found {
            return true;
        }
    }
    false
}

async fn on_tcp(address: impl tokio::net::ToSocketAddrs) -> bool {
    connected(TcpStream::connect(address)).await
}

async fn connected<S: AsyncRead + AsyncWrite + Unpin>(opening: impl Future<Output = std::io::Result<S>>) -> bool {
    match timeout(asking::POSTGRES_CONNECT.now(), opening).await {
        Ok(Ok(stream)) => answers(stream, asking::POSTGRES_SESSION.now()).await,
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn answers<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, patience: Duration) -> bool {
    let asked = async {
        stream.write_all(&TLS_REQUEST).await?;
        stream.read_u8().await
    };
    match timeout(patience, asked).await {
        Ok(answer) => answer.is_ok(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Somebody who takes one connection after the other and does this with each.
    async fn somebody<F: Future<Output = ()> + Send>(does: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                does(stream).await;
            }
        });
        format!("host=127.0.0.1 port={port} user=u").parse().unwrap()
    }

    #[tokio::test]
    async fn whoever_says_a_byte_or_keeps_the_connection_is_there() {
        let talks = somebody(|mut stream| async move {
            stream.write_all(b"N").await.unwrap();
        });
        assert!(is_anybody_at(&talks.await).await);
        let (one, _other) = tokio::io::duplex(64);
        assert!(answers(one, Duration::from_millis(20)).await, "it keeps the connection and says nothing");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_proxy_without_a_server_are_silent() {
        let closes = somebody(|stream| async move { drop(stream) }).await;
        assert!(!is_anybody_at(&closes).await);
        assert!(!is_anybody_at(&"host=127.0.0.1 port=1".parse().unwrap()).await);
        assert!(!is_anybody_at(&"host=/no/such/folder".parse().unwrap()).await);
    }
}
