//! The handshake from the server's side: options until an export is chosen.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::exports::{Entry, Exports, NoSlot, Slot};
use super::options::ServerOptions;
use crate::codec::info::{self, BlockSizes, Context, Info, flags};
use crate::codec::option::{
    ContextRequest, ExportRequest, FIXED_NEWSTYLE, Greeting, MAX_OPTION, NO_ZEROES, OptionCode,
    OptionHeader, OptionReply, encode_option_reply,
};
use crate::codec::{CodecError, MAX_STRING};
use crate::tls::Wire;
use crate::wire::{discard, read_array, read_bytes};

/// The one metadata context there is.
const ALLOCATION: &str = "base:allocation";
/// Its number on the wire.
pub(super) const ALLOCATION_ID: u32 = 1;
/// A client that asks for more than this many options is not about to use an export.
const MAX_OPTIONS: usize = 64;
/// A longer option than [`MAX_OPTION`] is skipped up to this length, and ends the connection beyond it.
const MAX_SKIPPED: u32 = 256 * 1024;

/// What a round of options led to.
pub(super) enum Met {
    /// The client left politely.
    Left,
    /// The client wants TLS and has been told to begin; the options start anew under it.
    StartTls,
    /// An export was chosen.
    Agreed(Agreed),
}

/// What a handshake led to.
pub(super) struct Agreed {
    pub(super) slot: Slot,
    pub(super) structured: bool,
    pub(super) allocation: bool,
}

/// Why a handshake ended the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the client does not follow the protocol")]
    Codec(#[from] CodecError),
    #[error("the client sets unknown flags or lacks the fixed newstyle handshake")]
    ClientFlags,
    #[error("the client asked for {MAX_OPTIONS} options and chose no export")]
    TooManyOptions,
    #[error("the client sent an option of {0} bytes")]
    OptionTooLong(u32),
    #[error("the client asked in the old way for an export it cannot have")]
    NoExport,
    #[error("the client asked in the old way, and in the clear, where TLS is required")]
    InTheClear,
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Greets a client; whether it wants padding where that was the custom.
pub(super) async fn greet<S>(stream: &mut S) -> Result<bool, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    stream.write_all(&Greeting { flags: FIXED_NEWSTYLE | NO_ZEROES }.encode()).await?;
    let client = u32::from_be_bytes(read_array(stream).await?);
    let (fixed, no_zeroes) = (u32::from(FIXED_NEWSTYLE), u32::from(NO_ZEROES));
    if client & fixed == 0 || client & !(fixed | no_zeroes) != 0 {
        return Err(HandshakeError::ClientFlags);
    }
    Ok(client & no_zeroes == 0)
}

/// Answers a client's options, of which nothing is remembered when TLS begins.
///
/// The reader must not read ahead: what a client sends after asking for TLS belongs to TLS.
pub(super) async fn negotiate<R, W>(
    reader: &mut R,
    writer: &mut W,
    exports: &Exports,
    options: &ServerOptions,
    (wire, padded): (Wire, bool),
) -> Result<Met, HandshakeError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut talk =
        Talk { reader, writer, exports, options, wire, structured: false, contexts_of: None };
    for _ in 0..MAX_OPTIONS {
        let header = OptionHeader::parse(&read_array::<{ OptionHeader::LEN }>(talk.reader).await?)?;
        if header.len > MAX_OPTION {
            talk.skip(header).await?;
            continue;
        }
        let data = read_bytes(talk.reader, header.len as usize).await?;
        match header.option {
            OptionCode::Abort => {
                talk.reply(header.option, OptionReply::Ack, &[]).await?;
                return Ok(Met::Left);
            }
            OptionCode::StartTls => {
                if talk.start_tls(&data).await? {
                    return Ok(Met::StartTls);
                }
            }
            OptionCode::ExportName if wire == Wire::PlainRefused => {
                return Err(HandshakeError::InTheClear);
            }
            option if wire == Wire::PlainRefused => talk.insist_on_tls(option).await?,
            OptionCode::ExportName => {
                return talk.export_name(&data, padded).await.map(Met::Agreed);
            }
            OptionCode::Go => {
                if let Some(slot) = talk.go(&data).await? {
                    return Ok(Met::Agreed(talk.agreed(slot)));
                }
            }
            OptionCode::List
            | OptionCode::Info
            | OptionCode::StructuredReply
            | OptionCode::ListMetaContext
            | OptionCode::SetMetaContext
            | OptionCode::Other(_) => talk.answer(header.option, &data).await?,
        }
    }
    Err(HandshakeError::TooManyOptions)
}

/// The state of one handshake.
struct Talk<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    exports: &'a Exports,
    options: &'a ServerOptions,
    wire: Wire,
    structured: bool,
    /// The export for which block status was agreed on.
    contexts_of: Option<Arc<Entry>>,
}

impl<R, W> Talk<'_, R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Whether TLS begins now.
    async fn start_tls(&mut self, data: &[u8]) -> Result<bool, HandshakeError> {
        const TLS: OptionCode = OptionCode::StartTls;
        let (reply, words) = match self.wire {
            Wire::PlainOnly => (OptionReply::Unsupported, "TLS is not offered"),
            Wire::Encrypted => (OptionReply::Invalid, "TLS has begun already"),
            Wire::PlainAllowed | Wire::PlainRefused if data.is_empty() => {
                self.reply(TLS, OptionReply::Ack, &[]).await?;
                return Ok(true);
            }
            Wire::PlainAllowed | Wire::PlainRefused => {
                (OptionReply::Invalid, "this option has no data")
            }
        };
        self.refuse(TLS, reply, words).await?;
        Ok(false)
    }

    async fn insist_on_tls(&mut self, option: OptionCode) -> Result<(), HandshakeError> {
        self.refuse(option, OptionReply::TlsRequired, "begin TLS first").await
    }

    /// Answers the options that neither choose an export nor end the handshake.
    async fn answer(&mut self, option: OptionCode, data: &[u8]) -> Result<(), HandshakeError> {
        match option {
            OptionCode::StructuredReply if data.is_empty() => {
                self.structured = true;
                self.reply(option, OptionReply::Ack, &[]).await
            }
            OptionCode::StructuredReply => {
                self.refuse(option, OptionReply::Invalid, "this option has no data").await
            }
            // An empty list would claim that there is nothing; the truth is that names are not told.
            OptionCode::List => {
                self.refuse(option, OptionReply::Policy, "exports are not listed").await
            }
            OptionCode::Info => self.info(data).await,
            OptionCode::ListMetaContext | OptionCode::SetMetaContext => {
                self.contexts(option, data).await
            }
            OptionCode::StartTls
            | OptionCode::ExportName
            | OptionCode::Abort
            | OptionCode::Go
            | OptionCode::Other(_) => {
                self.refuse(option, OptionReply::Unsupported, "this option is not offered").await
            }
        }
    }

    async fn info(&mut self, data: &[u8]) -> Result<(), HandshakeError> {
        if let Some((entry, wanted)) = self.wanted_export(OptionCode::Info, data).await? {
            self.describe(OptionCode::Info, &entry, &wanted).await?;
            self.reply(OptionCode::Info, OptionReply::Ack, &[]).await?;
        }
        Ok(())
    }

    async fn go(&mut self, data: &[u8]) -> Result<Option<Slot>, HandshakeError> {
        const GO: OptionCode = OptionCode::Go;
        let Some((entry, wanted)) = self.wanted_export(GO, data).await? else { return Ok(None) };
        let slot = match Slot::take(entry.clone()) {
            Ok(slot) => slot,
            Err(NoSlot::Gone) => {
                self.refuse(GO, OptionReply::Unknown, "there is no such export").await?;
                return Ok(None);
            }
            Err(NoSlot::Full(max)) => {
                let words = format!("all {max} connections of this export are in use");
                self.refuse(GO, OptionReply::Policy, &words).await?;
                return Ok(None);
            }
        };
        // Contexts belong to the export they were asked for, not to whichever is used in the end.
        self.contexts_of.take_if(|of| !Arc::ptr_eq(of, &entry));
        self.describe(GO, &entry, &wanted).await?;
        self.reply(GO, OptionReply::Ack, &[]).await?;
        Ok(Some(slot))
    }

    /// Enters transmission the old way, where the only refusal is to hang up.
    async fn export_name(mut self, data: &[u8], padded: bool) -> Result<Agreed, HandshakeError> {
        let name = std::str::from_utf8(data).map_err(|_| CodecError::NotText("export name"))?;
        let entry = self.exports.find(name).ok_or(HandshakeError::NoExport)?;
        let slot = Slot::take(entry.clone()).map_err(|_| HandshakeError::NoExport)?;
        self.contexts_of.take_if(|of| !Arc::ptr_eq(of, &entry));
        let mut frame = entry.export.device.size().to_be_bytes().to_vec();
        frame.extend(self.transmission_flags(&entry).to_be_bytes());
        if padded {
            frame.extend([0; 124]);
        }
        self.writer.write_all(&frame).await?;
        self.writer.flush().await?;
        Ok(self.agreed(slot))
    }

    fn agreed(self, slot: Slot) -> Agreed {
        Agreed { slot, structured: self.structured, allocation: self.contexts_of.is_some() }
    }

    /// Finds the export that an option asks for, or tells the client that there is none.
    async fn wanted_export(
        &mut self,
        option: OptionCode,
        data: &[u8],
    ) -> Result<Option<(Arc<Entry>, Vec<u16>)>, HandshakeError> {
        let request = match ExportRequest::parse(data) {
            Ok(request) => request,
            Err(error) => {
                self.refuse(option, OptionReply::Invalid, &error.to_string()).await?;
                return Ok(None);
            }
        };
        let Some(entry) = self.exports.find(&request.name) else {
            self.refuse(option, OptionReply::Unknown, "there is no such export").await?;
            return Ok(None);
        };
        Ok(Some((entry, request.wanted)))
    }

    async fn describe(
        &mut self,
        option: OptionCode,
        entry: &Entry,
        wanted: &[u16],
    ) -> Result<(), HandshakeError> {
        let size = entry.export.device.size();
        let mut told = vec![Info::Export { size, flags: self.transmission_flags(entry) }];
        let (preferred, maximum) = (self.options.preferred_block, self.options.max_payload);
        told.push(Info::BlockSizes(BlockSizes { minimum: 1, preferred, maximum }));
        if wanted.contains(&info::DESCRIPTION) && !entry.export.description.is_empty() {
            told.push(Info::Description(entry.export.description.clone()));
        }
        for info in told {
            self.reply(option, OptionReply::Info, &info.encode()).await?;
        }
        Ok(())
    }

    fn transmission_flags(&self, entry: &Entry) -> u16 {
        let mut bits = flags::HAS_FLAGS | flags::CAN_MULTI_CONN;
        if entry.export.device.read_only() {
            bits |= flags::READ_ONLY;
        } else {
            bits |= flags::SEND_FLUSH | flags::SEND_FUA | flags::SEND_WRITE_ZEROES;
        }
        if self.structured { bits | flags::SEND_DF } else { bits }
    }

    async fn contexts(&mut self, option: OptionCode, data: &[u8]) -> Result<(), HandshakeError> {
        let choosing = option == OptionCode::SetMetaContext;
        if choosing {
            self.contexts_of = None;
        }
        if !self.structured {
            let words = "metadata contexts need structured replies";
            return self.refuse(option, OptionReply::Invalid, words).await;
        }
        let request = match ContextRequest::parse(data) {
            Ok(request) => request,
            Err(error) => {
                return self.refuse(option, OptionReply::Invalid, &error.to_string()).await;
            }
        };
        let Some(entry) = self.exports.find(&request.name) else {
            return self.refuse(option, OptionReply::Unknown, "there is no such export").await;
        };
        let asked = |query: &String| query == ALLOCATION || (!choosing && query == "base:");
        if request.queries.iter().any(asked) || (!choosing && request.queries.is_empty()) {
            let id = if choosing { ALLOCATION_ID } else { 0 };
            let context = Context { id, name: ALLOCATION.to_owned() };
            self.reply(option, OptionReply::MetaContext, &context.encode()).await?;
            self.contexts_of = choosing.then_some(entry).or(self.contexts_of.take());
        }
        self.reply(option, OptionReply::Ack, &[]).await
    }

    async fn skip(&mut self, header: OptionHeader) -> Result<(), HandshakeError> {
        if header.len > MAX_SKIPPED || header.option == OptionCode::ExportName {
            return Err(HandshakeError::OptionTooLong(header.len));
        }
        discard(self.reader, u64::from(header.len)).await?;
        if self.wire == Wire::PlainRefused {
            return self.insist_on_tls(header.option).await;
        }
        self.refuse(header.option, OptionReply::TooBig, "the option is too long").await
    }

    async fn refuse(
        &mut self,
        option: OptionCode,
        reply: OptionReply,
        words: &str,
    ) -> Result<(), HandshakeError> {
        let words = &words.as_bytes()[..words.len().min(MAX_STRING)];
        self.reply(option, reply, words).await
    }

    async fn reply(
        &mut self,
        option: OptionCode,
        reply: OptionReply,
        data: &[u8],
    ) -> Result<(), HandshakeError> {
        self.writer.write_all(&encode_option_reply(option, reply, data)).await?;
        Ok(self.writer.flush().await?)
    }
}

#[cfg(test)]
mod tests;
