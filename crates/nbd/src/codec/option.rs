//! The handshake: greeting, options, and the replies to them.

use super::cursor::{Cursor, put_text};
use super::{CodecError, MAX_STRING};

/// The longest option or option reply that is read into memory.
pub(crate) const MAX_OPTION: u32 = 16 * 1024;
/// The most queries or information requests in one option.
pub(crate) const MAX_LISTED: usize = 64;

const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454F_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;

/// Handshake flag and client flag: the newstyle handshake is the fixed one.
pub(crate) const FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag and client flag: no padding after an export that was asked for the old way.
pub(crate) const NO_ZEROES: u16 = 2;

/// Names a run of numbers from the protocol and keeps the numbers that have no name.
macro_rules! wire_numbers {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$vdoc:meta])* $variant:ident = $value:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A number this library has no name for.
            Other($int),
        }

        impl $name {
            /// The number on the wire.
            pub(crate) const fn code(self) -> $int {
                match self {
                    $(Self::$variant => $value,)+
                    Self::Other(code) => code,
                }
            }
        }

        impl From<$int> for $name {
            fn from(code: $int) -> Self {
                match code {
                    $(code if code == $value => Self::$variant,)+
                    code => Self::Other(code),
                }
            }
        }
    };
}
pub(crate) use wire_numbers;

wire_numbers! {
    /// What a client asks for before data flows.
    OptionCode: u32 {
        /// Enter transmission, the old way, without a chance to refuse.
        ExportName = 1,
        /// End politely.
        Abort = 2,
        /// List the exports.
        List = 3,
        /// Encrypt the connection.
        StartTls = 5,
        /// Describe an export.
        Info = 6,
        /// Describe an export and enter transmission.
        Go = 7,
        /// Allow structured replies.
        StructuredReply = 8,
        /// Ask which metadata contexts there are.
        ListMetaContext = 9,
        /// Choose metadata contexts.
        SetMetaContext = 10,
    }
}

const ERROR: u32 = 1 << 31;

wire_numbers! {
    /// What a server answers to an option.
    OptionReply: u32 {
        /// Done.
        Ack = 1,
        /// One export of a list.
        Server = 2,
        /// One piece of information on an export.
        Info = 3,
        /// One metadata context.
        MetaContext = 4,
        /// The server does not know the option.
        Unsupported = ERROR + 1,
        /// The server does not allow it.
        Policy = ERROR + 2,
        /// The option's data makes no sense.
        Invalid = ERROR + 3,
        /// The server was built without it.
        Platform = ERROR + 4,
        /// The server insists on encryption.
        TlsRequired = ERROR + 5,
        /// There is no such export.
        Unknown = ERROR + 6,
        /// The server is going down.
        Shutdown = ERROR + 7,
        /// The server insists that the client asks for block sizes.
        BlockSizeRequired = ERROR + 8,
        /// The request is over a limit.
        TooBig = ERROR + 9,
    }
}

impl OptionReply {
    /// Whether the option was refused.
    pub(crate) const fn is_error(self) -> bool {
        self.code() & ERROR != 0
    }
}

/// The server's first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// [`FIXED_NEWSTYLE`] and [`NO_ZEROES`].
    pub(crate) flags: u16,
}

impl Greeting {
    pub(crate) const LEN: usize = 18;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("greeting", bytes);
        cursor.magic(GREETING)?;
        cursor.magic(OPTION)?;
        let flags = cursor.u16()?;
        cursor.end()?;
        Ok(Self { flags })
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut frame = GREETING.to_be_bytes().to_vec();
        frame.extend(OPTION.to_be_bytes());
        frame.extend(self.flags.to_be_bytes());
        frame
    }
}

/// What stands before an option's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionHeader {
    pub(crate) option: OptionCode,
    /// Length of the data; not yet checked against [`MAX_OPTION`].
    pub(crate) len: u32,
}

impl OptionHeader {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("option", bytes);
        cursor.magic(OPTION)?;
        let header = Self { option: cursor.u32()?.into(), len: cursor.u32()? };
        cursor.end()?;
        Ok(header)
    }
}

/// A whole option: header and data.
pub(crate) fn encode_option(option: OptionCode, data: &[u8]) -> Vec<u8> {
    let mut frame = OPTION.to_be_bytes().to_vec();
    frame.extend(option.code().to_be_bytes());
    frame.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(data);
    frame
}

/// What stands before the data of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionReplyHeader {
    pub(crate) option: OptionCode,
    pub(crate) reply: OptionReply,
    /// Length of the data; not yet checked against [`MAX_OPTION`].
    pub(crate) len: u32,
}

impl OptionReplyHeader {
    pub(crate) const LEN: usize = 20;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("reply to an option", bytes);
        cursor.magic(OPTION_REPLY)?;
        let (option, reply) = (cursor.u32()?.into(), cursor.u32()?.into());
        let header = Self { option, reply, len: cursor.u32()? };
        cursor.end()?;
        Ok(header)
    }
}

/// A whole reply to an option: header and data.
pub(crate) fn encode_option_reply(option: OptionCode, reply: OptionReply, data: &[u8]) -> Vec<u8> {
    let mut frame = OPTION_REPLY.to_be_bytes().to_vec();
    frame.extend(option.code().to_be_bytes());
    frame.extend(reply.code().to_be_bytes());
    frame.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(data);
    frame
}

/// The data of the options that ask for an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportRequest {
    pub(crate) name: String,
    /// Numbers of the pieces of information wanted.
    pub(crate) wanted: Vec<u16>,
}

impl ExportRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("request for an export", bytes);
        let len = cursor.u32()? as usize;
        let name = cursor.text(len, MAX_STRING)?;
        let count = usize::from(cursor.u16()?);
        bounded("number of information requests", count)?;
        let wanted = (0..count).map(|_| cursor.u16()).collect::<Result<_, _>>()?;
        cursor.end()?;
        Ok(Self { name, wanted })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        put_text(&mut frame, &self.name);
        frame.extend(u16::try_from(self.wanted.len()).unwrap_or(u16::MAX).to_be_bytes());
        frame.extend(self.wanted.iter().flat_map(|it| it.to_be_bytes()));
        frame
    }
}

/// The data of the options that list or choose metadata contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContextRequest {
    pub(crate) name: String,
    pub(crate) queries: Vec<String>,
}

impl ContextRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("request for contexts", bytes);
        let len = cursor.u32()? as usize;
        let name = cursor.text(len, MAX_STRING)?;
        let count = cursor.u32()? as usize;
        bounded("number of context queries", count)?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let len = cursor.u32()? as usize;
            queries.push(cursor.text(len, MAX_STRING)?);
        }
        cursor.end()?;
        Ok(Self { name, queries })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        put_text(&mut frame, &self.name);
        frame.extend(u32::try_from(self.queries.len()).unwrap_or(u32::MAX).to_be_bytes());
        for query in &self.queries {
            put_text(&mut frame, query);
        }
        frame
    }
}

fn bounded(what: &'static str, count: usize) -> Result<(), CodecError> {
    if count <= MAX_LISTED {
        return Ok(());
    }
    Err(CodecError::TooLong { what, len: count as u64, limit: MAX_LISTED as u64 })
}
