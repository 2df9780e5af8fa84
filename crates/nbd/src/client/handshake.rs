//! The handshake from the client's side, and why a connection could not be made.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::codec::CodecError;
use crate::codec::info::{BLOCK_SIZES, BlockSizes, Context, Info, flags};
use crate::codec::option::{
    ContextRequest, ExportRequest, FIXED_NEWSTYLE, Greeting, MAX_OPTION, NO_ZEROES, OptionCode,
    OptionReply, OptionReplyHeader, encode_option,
};
use crate::tls::handshake_failure;
use crate::wire::{read_array, read_bytes};

/// More replies than this to one option are a server that does not come to the point.
const MAX_REPLIES: usize = 128;
/// The protocol forbids larger minimum block sizes.
const MAX_MINIMUM: u32 = 64 << 10;

/// The context that tells data from zeroes.
pub(super) const ALLOCATION: &str = "base:allocation";

/// Why no connection to an export was made; the texts name the server, never the export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server could not be reached.
    #[error("cannot connect to {endpoint}")]
    Dial {
        /// The server.
        endpoint: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server did not come to the point in time; a server that serves fewer connections than were asked for does this, too.
    #[error("{endpoint} did not finish the handshake of connection {connection} within {after:?}")]
    TimedOut {
        /// The server.
        endpoint: String,
        /// Which connection, counted from 1.
        connection: usize,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke during the handshake.
    #[error("{endpoint} ended the connection during the handshake")]
    Broken {
        /// The server.
        endpoint: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server does not have the export.
    #[error("{endpoint} has no such export")]
    UnknownExport {
        /// The server.
        endpoint: String,
    },
    /// The server refused, for example because all connections of the export are in use.
    #[error("{endpoint} refuses the export: {reason}")]
    Refused {
        /// The server.
        endpoint: String,
        /// The server's words.
        reason: String,
    },
    /// The server wants TLS, and this client was not told whom to believe.
    #[error("{endpoint} requires TLS")]
    TlsRequired {
        /// The server.
        endpoint: String,
    },
    /// The server does not offer TLS, which this client demands.
    #[error("{endpoint} does not begin TLS: {reason}")]
    TlsRefused {
        /// The server.
        endpoint: String,
        /// The server's words.
        reason: String,
    },
    /// The server's certificate is not one that this client believes.
    #[error("{endpoint} does not prove who it is: {reason}")]
    Untrusted {
        /// The server.
        endpoint: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The TLS handshake broke.
    #[error("{endpoint} did not finish the TLS handshake")]
    Tls {
        /// The server.
        endpoint: String,
        /// What the TLS library or the system said.
        #[source]
        source: io::Error,
    },
    /// The server is on another machine, and this client speaks in the clear on its own only.
    #[error("{endpoint} is on another machine and would be spoken to in the clear")]
    PlainRefused {
        /// The server.
        endpoint: String,
    },
    /// The server is not one this client can talk to.
    #[error("{endpoint} does not speak the protocol as expected: {reason}")]
    Protocol {
        /// The server.
        endpoint: String,
        /// What was wrong.
        reason: String,
    },
    /// A name in the arguments is longer than the protocol allows, or there are too many.
    #[error("{0}")]
    InvalidOptions(String),
}

/// What a handshake can fail with, before the server's name is added.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("there is no such export")]
    Unknown,
    #[error("{0}")]
    Refused(String),
    #[error("TLS is required")]
    TlsRequired,
    #[error("{0}")]
    TlsRefused(String),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the server is on another machine")]
    PlainRefused,
    #[error("the server cannot be reached")]
    Dial(#[source] io::Error),
    #[error("{0}")]
    Protocol(&'static str),
}

impl Failure {
    /// Adds the server's name.
    pub(super) fn at(self, endpoint: String) -> ConnectError {
        match self {
            Self::Io(source) => ConnectError::Broken { endpoint, source },
            Self::Codec(error) => ConnectError::Protocol { endpoint, reason: error.to_string() },
            Self::Unknown => ConnectError::UnknownExport { endpoint },
            Self::Refused(reason) => ConnectError::Refused { endpoint, reason },
            Self::TlsRequired => ConnectError::TlsRequired { endpoint },
            Self::TlsRefused(reason) => ConnectError::TlsRefused { endpoint, reason },
            Self::Tls(source) => match handshake_failure(&source) {
                Some(reason) => ConnectError::Untrusted { endpoint, reason },
                None => ConnectError::Tls { endpoint, source },
            },
            Self::PlainRefused => ConnectError::PlainRefused { endpoint },
            Self::Dial(source) => ConnectError::Dial { endpoint, source },
            Self::Protocol(reason) => {
                ConnectError::Protocol { endpoint, reason: reason.to_owned() }
            }
        }
    }
}

/// What both ends agreed on; equal for all connections of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) size: u64,
    pub(super) flags: u16,
    pub(super) sizes: BlockSizes,
    pub(super) structured: bool,
    pub(super) contexts: Vec<Context>,
}

/// Answers the server's greeting.
pub(super) async fn greet<S>(stream: &mut S) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let greeting = Greeting::parse(&read_array::<{ Greeting::LEN }>(stream).await?)?;
    if greeting.flags & FIXED_NEWSTYLE == 0 {
        return Err(Failure::Protocol("it lacks the fixed newstyle handshake"));
    }
    let answer = u32::from(greeting.flags & (FIXED_NEWSTYLE | NO_ZEROES));
    Ok(stream.write_all(&answer.to_be_bytes()).await?)
}

/// Asks the server to begin TLS; a no of whatever kind ends the connection, so that nobody in between can talk the
/// client out of it.
///
/// The stream must not read ahead: what the server sends behind its yes belongs to TLS.
pub(super) async fn start_tls<S>(stream: &mut S) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut talk = Talk { reader: &mut reader, writer: &mut writer, export: "" };
    let answer = talk.ask(OptionCode::StartTls, &[]).await?;
    match answer.end {
        Ok(()) if answer.pieces.is_empty() => Ok(()),
        Ok(()) => Err(Failure::Protocol("it answers the wish for TLS with something else")),
        Err(Failure::Refused(words)) => Err(Failure::TlsRefused(words)),
        Err(other) => Err(Failure::TlsRefused(other.to_string())),
    }
}

/// Negotiates an export with as much as the server offers of what is wanted.
pub(super) async fn negotiate<R, W>(
    reader: &mut R,
    writer: &mut W,
    export: &str,
    contexts: &[String],
) -> Result<Agreed, Failure>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut talk = Talk { reader, writer, export };
    let structured = talk.ask(OptionCode::StructuredReply, &[]).await?.accepted()?;
    let contexts = if structured { talk.contexts(contexts).await? } else { Vec::new() };
    talk.go(structured, contexts).await
}

struct Talk<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    export: &'a str,
}

/// All replies to one option: the pieces, and how it ended.
struct Answer {
    pieces: Vec<(OptionReply, Vec<u8>)>,
    end: Result<(), Failure>,
    known: bool,
}

impl Answer {
    /// Whether the server did it; an option it does not know is a no, anything else an error.
    fn accepted(self) -> Result<bool, Failure> {
        if self.known { self.end.map(|()| true) } else { Ok(false) }
    }
}

impl<R, W> Talk<'_, R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    async fn ask(&mut self, option: OptionCode, data: &[u8]) -> Result<Answer, Failure> {
        self.writer.write_all(&encode_option(option, data)).await?;
        self.writer.flush().await?;
        let mut pieces = Vec::new();
        for _ in 0..MAX_REPLIES {
            let frame = read_array::<{ OptionReplyHeader::LEN }>(self.reader).await?;
            let header = OptionReplyHeader::parse(&frame)?;
            if header.option != option {
                return Err(Failure::Protocol("it answers an option that was not asked"));
            }
            if header.len > MAX_OPTION {
                return Err(Failure::Protocol("it answers an option at too great a length"));
            }
            let data = read_bytes(self.reader, header.len as usize).await?;
            if header.reply == OptionReply::Ack {
                return Ok(Answer { pieces, end: Ok(()), known: true });
            }
            if header.reply.is_error() {
                let known = header.reply != OptionReply::Unsupported;
                return Ok(Answer {
                    pieces,
                    end: Err(refusal(header.reply, &data, self.export)),
                    known,
                });
            }
            pieces.push((header.reply, data));
        }
        Err(Failure::Protocol("it answers an option without end"))
    }

    async fn contexts(&mut self, wanted: &[String]) -> Result<Vec<Context>, Failure> {
        let request = ContextRequest { name: self.export.to_owned(), queries: wanted.to_vec() };
        let answer = self.ask(OptionCode::SetMetaContext, &request.encode()).await?;
        let mut contexts = Vec::new();
        for (reply, data) in &answer.pieces {
            if *reply == OptionReply::MetaContext {
                contexts.push(Context::parse(data)?);
            }
        }
        // A server without the export says so again, and better, when it is asked for the export.
        let usable = matches!(answer.accepted(), Ok(true));
        Ok(if usable { contexts } else { Vec::new() })
    }

    async fn go(&mut self, structured: bool, contexts: Vec<Context>) -> Result<Agreed, Failure> {
        let request = ExportRequest { name: self.export.to_owned(), wanted: vec![BLOCK_SIZES] };
        let answer = self.ask(OptionCode::Go, &request.encode()).await?;
        let (mut export, mut sizes) = (None, BlockSizes::default());
        for (reply, data) in &answer.pieces {
            if *reply != OptionReply::Info {
                continue;
            }
            match Info::parse(data)? {
                Info::Export { size, flags } => export = Some((size, flags)),
                Info::BlockSizes(told) => sizes = checked(told)?,
                Info::Name(_) | Info::Description(_) | Info::Other(_) => {}
            }
        }
        answer.end?;
        let (size, flags) = export.ok_or(Failure::Protocol("it does not tell the size"))?;
        if flags & flags::HAS_FLAGS == 0 || i64::try_from(size).is_err() {
            return Err(Failure::Protocol("the export's size or flags are out of range"));
        }
        Ok(Agreed { size, flags, sizes, structured, contexts })
    }
}

fn checked(sizes: BlockSizes) -> Result<BlockSizes, Failure> {
    let BlockSizes { minimum, maximum, .. } = sizes;
    if !minimum.is_power_of_two() || minimum > MAX_MINIMUM || maximum < minimum {
        return Err(Failure::Protocol("its block sizes make no sense"));
    }
    Ok(sizes)
}

/// What a refusal means; a server that repeats the export's name does not get it into an error text.
fn refusal(reply: OptionReply, data: &[u8], export: &str) -> Failure {
    let mut words: String =
        String::from_utf8_lossy(data).chars().filter(|it| !it.is_control()).take(300).collect();
    if !export.is_empty() {
        words = words.replace(export, "(the export)");
    }
    if reply == OptionReply::Unknown {
        return Failure::Unknown;
    }
    if reply == OptionReply::TlsRequired {
        return Failure::TlsRequired;
    }
    Failure::Refused(if words.is_empty() { format!("{reply:?}") } else { words })
}

#[cfg(test)]
mod tests;
