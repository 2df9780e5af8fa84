//! From an accepted connection to one that has chosen its export, in the clear or under TLS.

use std::net::SocketAddr;

use hub_block::BufferPool;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, split};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::exports::Exports;
use super::handshake::{Agreed, HandshakeError, Met, greet, negotiate};
use super::options::ServerOptions;
use super::session::{SessionError, serve};
use crate::tls::{ServerSecurity, Wire};
use crate::wire::READ_AHEAD;

/// A client that has chosen its export.
pub(super) enum Guest {
    Plain(TcpStream, Agreed),
    Encrypted(Box<TlsStream<TcpStream>>, Agreed),
}

/// Leads a client through the whole handshake, TLS included; nothing is a client that left politely.
///
/// The caller sets the deadline, which covers TLS: a client that is silent in the middle of it frees its place.
pub(super) async fn receive(
    mut stream: TcpStream,
    peer: SocketAddr,
    exports: &Exports,
    options: &ServerOptions,
    security: &ServerSecurity,
) -> Result<Option<Guest>, HandshakeError> {
    let padded = greet(&mut stream).await?;
    let plain = (security.wire(peer), padded);
    match haggle(&mut stream, exports, options, plain).await? {
        Met::Left => return Ok(None),
        Met::Agreed(agreed) => return Ok(Some(Guest::Plain(stream, agreed))),
        Met::StartTls => (),
    }
    // Nothing was read ahead, so what a client sent behind its wish is taken as TLS, and fails as that.
    let Some(tls) = security.tls() else { return Ok(None) };
    let mut stream = tls.acceptor().accept(stream).await.map_err(HandshakeError::Tls)?;
    match haggle(&mut stream, exports, options, (Wire::Encrypted, padded)).await? {
        Met::Left | Met::StartTls => Ok(None),
        Met::Agreed(agreed) => Ok(Some(Guest::Encrypted(Box::new(stream), agreed))),
    }
}

async fn haggle<S>(
    stream: &mut S,
    exports: &Exports,
    options: &ServerOptions,
    terms: (Wire, bool),
) -> Result<Met, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = split(stream);
    negotiate(&mut reader, &mut writer, exports, options, terms).await
}

impl Guest {
    /// Serves the client to the end of its session.
    pub(super) async fn serve(
        self,
        options: &ServerOptions,
        pool: &BufferPool,
        stop: &CancellationToken,
    ) -> Result<(), SessionError> {
        match self {
            Self::Plain(stream, agreed) => {
                let (reader, writer) = stream.into_split();
                let mut reader = BufReader::with_capacity(READ_AHEAD, reader);
                serve(&mut reader, writer, agreed, options, pool, stop).await
            }
            Self::Encrypted(stream, agreed) => {
                let (reader, writer) = split(*stream);
                let mut reader = BufReader::with_capacity(READ_AHEAD, reader);
                serve(&mut reader, writer, agreed, options, pool, stop).await
            }
        }
    }
}
