//! Where a server listens, and how a client shall use it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, split};
use tokio::net::{TcpStream, UnixStream};

use super::handshake::{Failure, greet, start_tls};
use crate::socket::prepare;
use crate::tls::{ClientSecurity, is_loopback};
use crate::wire::READ_AHEAD;

/// Where an NBD server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A port on the network.
    Tcp {
        /// Name or address of the machine.
        host: String,
        /// The port; 10809 is the registered one.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(out, "nbd://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "nbd://{host}:{port}"),
            Self::Unix(path) => write!(out, "nbd+unix:{}", path.display()),
        }
    }
}

/// How a client uses a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Connections to open, 1 to 64; only one is opened when the server does not allow several.
    pub connections: usize,
    /// Requests in flight on each connection, 1 to 1024.
    pub in_flight: usize,
    /// Longest payload of one request, in bytes; longer reads and writes are split.
    pub max_request: u32,
    /// Time for each connection to be made and its handshake to be done.
    pub connect_timeout: Duration,
    /// Time for the answer to one request; a flush may take ten times as long.
    pub io_timeout: Duration,
    /// Metadata contexts to ask for besides `base:allocation`, for example `qemu:allocation-depth`; at most 16.
    pub extra_contexts: Vec<String>,
    /// What is demanded of the way to the server.
    pub security: ClientSecurity,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connections: 2,
            in_flight: 8,
            max_request: 1 << 20,
            connect_timeout: Duration::from_secs(10),
            io_timeout: Duration::from_secs(60),
            extra_contexts: Vec::new(),
            security: ClientSecurity::default(),
        }
    }
}

/// The half of a stream that is read.
pub(super) type ReadHalf = BufReader<Box<dyn AsyncRead + Send + Unpin>>;
/// The half of a stream that is written.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens a stream up to the point where an export can be asked for; the caller sets the deadline.
pub(super) async fn dial(
    endpoint: &Endpoint,
    security: &ClientSecurity,
) -> Result<(ReadHalf, WriteHalf), Failure> {
    let (reader, writer): (Box<dyn AsyncRead + Send + Unpin>, WriteHalf) = match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(Failure::Dial)?;
            prepare(&stream)?;
            let near = is_loopback(stream.peer_addr()?.ip());
            if *security == ClientSecurity::PlainOnLoopback && !near {
                return Err(Failure::PlainRefused);
            }
            match begin(stream, security).await? {
                Begun::Plain(stream) => {
                    let (reader, writer) = stream.into_split();
                    (Box::new(reader), Box::new(writer))
                }
                Begun::Encrypted(reader, writer) => (reader, writer),
            }
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Dial)?;
            match begin(stream, security).await? {
                Begun::Plain(stream) => {
                    let (reader, writer) = stream.into_split();
                    (Box::new(reader), Box::new(writer))
                }
                Begun::Encrypted(reader, writer) => (reader, writer),
            }
        }
    };
    Ok((BufReader::with_capacity(READ_AHEAD, reader), writer))
}

/// A connection after the greeting, and after TLS has begun where it is demanded.
enum Begun<S> {
    Plain(S),
    Encrypted(Box<dyn AsyncRead + Send + Unpin>, WriteHalf),
}

async fn begin<S>(mut stream: S, security: &ClientSecurity) -> Result<Begun<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    greet(&mut stream).await?;
    let ClientSecurity::Tls(tls) = security else { return Ok(Begun::Plain(stream)) };
    start_tls(&mut stream).await?;
    let (reader, writer) = split(tls.encrypt(stream).await.map_err(Failure::Tls)?);
    Ok(Begun::Encrypted(Box::new(reader), Box::new(writer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_like_addresses() {
        let tcp = |host: &str| Endpoint::Tcp { host: host.to_owned(), port: 10809 }.to_string();
        assert_eq!(tcp("hub.example"), "nbd://hub.example:10809");
        assert_eq!(tcp("::1"), "nbd://[::1]:10809");
        assert_eq!(Endpoint::Unix("/run/nbd.sock".into()).to_string(), "nbd+unix:/run/nbd.sock");
    }
}
