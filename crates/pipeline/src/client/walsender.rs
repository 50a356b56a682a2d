//! A session with a walsender, which understands replication commands besides SQL.
//!
//! The library opens ordinary sessions only: the parameter of the startup message that asks for a walsender is one that it does
//! not know. So the message is completed on its way to the server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::TryFutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{
    Client, Config, Connection,
    config::Host,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// PostgreSQL's number for version 3.0 of its protocol, in the startup message.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
/// A walsender of a database: it takes SQL too, and passes by the same lines of `pg_hba.conf` as an ordinary session.
const PARAMETER: &[u8] = b"replication\0database\0";

/// A connection to a server, of either kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type Raw = Completing<Box<dyn Wire>>;
type Tls = Completing<<MakeRustlsConnect as MakeTlsConnect<Raw>>::Stream>;

/// Why there is no session.
pub(super) enum Failed {
    /// No connection was made.
    Wire(io::Error),
    /// No certificate store, or another fault of TLS before anything was sent.
    Tls(String),
    /// The server refused, or said something unexpected.
    Session(tokio_postgres::Error),
}

/// Opens a session with a walsender, on the first of the configuration's hosts that takes it.
pub(super) async fn open(
    config: &Config,
    mut tls: MakeRustlsConnect,
) -> Result<(Client, Connection<Raw, Tls>), Failed> {
    let none = io::Error::new(io::ErrorKind::InvalidInput, "the address names no host");
    let mut failed = Failed::Wire(none);
    for place in 0..config.get_hosts().len().max(config.get_hostaddrs().len()) {
        let wire = match connect(config, place).await {
            Ok(wire) => wire,
            Err(error) => {
                failed = Failed::Wire(error);
                continue;
            }
        };
        // Looked at where the server speaks TLS, which none does on a socket.
        let name = match (config.get_hosts().get(place), config.get_hostaddrs().get(place)) {
            (Some(Host::Tcp(name)), _) => name.clone(),
            (None, Some(address)) => address.to_string(),
            (Some(Host::Unix(_)), _) | (None, None) => "localhost".to_owned(),
        };
        let connector = MakeTlsConnect::<Raw>::make_tls_connect(&mut tls, &name);
        let connector = connector.map_err(|e| Failed::Tls(e.to_string()))?;
        match config.connect_raw(Completing::new(wire), Completed(connector)).await {
            Ok(session) => return Ok(session),
            Err(error) => failed = Failed::Session(error),
        }
    }
    Err(failed)
}

async fn connect(config: &Config, place: usize) -> io::Result<Box<dyn Wire>> {
    let ports = config.get_ports();
    let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    Ok(match (config.get_hostaddrs().get(place), config.get_hosts().get(place)) {
        (Some(address), _) => Box::new(TcpStream::connect((*address, port)).await?),
        (None, Some(Host::Tcp(name))) => Box::new(TcpStream::connect((name.as_str(), port)).await?),
        (None, Some(Host::Unix(folder))) => {
            Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?)
        }
        (None, None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the address names no host")),
    })
}

/// A connection on which a startup message asks for a walsender.
pub(super) struct Completing<S> {
    inner: S,
    /// The completed message, and how much of it is sent.
    message: Option<(Vec<u8>, usize)>,
}

impl<S> Completing<S> {
    fn new(inner: S) -> Completing<S> {
        Completing { inner, message: None }
    }
}

impl<S: AsyncWrite + Unpin> Completing<S> {
    /// Sends what is left of the completed message.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((message, sent)) = &mut self.message {
            let more = ready!(Pin::new(&mut self.inner).poll_write(cx, &message[*sent..]))?;
            if more == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += more;
            if *sent == message.len() {
                self.message = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The startup message with the parameter; none where these bytes are not one. It has its own length, the protocol's version,
/// and names and values that each end with a zero byte, as does their list.
fn completed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let whole = u32::from_be_bytes(*length) as usize == bytes.len();
    let parameters = rest.strip_prefix(&PROTOCOL)?.strip_suffix(&[0])?;
    let length = u32::try_from(bytes.len() + PARAMETER.len()).ok()?;
    whole.then(|| [&length.to_be_bytes(), &PROTOCOL, parameters, PARAMETER, &[0]].concat())
}

impl<S: AsyncRead + Unpin> AsyncRead for Completing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Completing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_message(cx))?;
        match completed(buf) {
            Some(message) => {
                self.message = Some((message, 0));
                Poll::Ready(Ok(buf.len()))
            }
            None => Pin::new(&mut self.inner).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_message(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_message(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Completing<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Does the same on the inside of TLS, where the startup message is sent then.
struct Completed<T>(T);

impl<S, T: TlsConnect<S>> TlsConnect<S> for Completed<T> {
    type Stream = Completing<T::Stream>;
    type Error = T::Error;
    type Future = futures::future::MapOk<T::Future, fn(T::Stream) -> Completing<T::Stream>>;

    fn connect(self, stream: S) -> Self::Future {
        self.0.connect(stream).map_ok(Completing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_startup_message_is_completed() {
        let message = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";
        let made = completed(message).unwrap();
        assert_eq!(made, b"\0\0\0\x26\0\x03\0\0user\0me\0replication\0database\0\0");
        assert_eq!(usize::from(made[3]), made.len());
        let request_for_tls = b"\0\0\0\x08\x04\xd2\x16\x2f";
        let query = b"Q\0\0\0\x0dselect 1\0";
        for other in [&request_for_tls[..], query, &message[..16], b"", &[22, 3, 1, 2, 0]] {
            assert_eq!(completed(other), None, "{other:?}");
        }
    }
}
