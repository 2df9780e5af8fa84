//! Every frame survives a round trip, and no bytes make a parser panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::info::{BlockSizes, Context, Info};
use super::option::{
    ContextRequest, ExportRequest, Greeting, MAX_LISTED, OptionCode, OptionHeader, OptionReply,
    OptionReplyHeader, encode_option, encode_option_reply,
};
use super::reply::{ChunkKind, Failure, Hole, ReplyHeader, Status};
use super::request::{Command, Request};
use super::{CodecError, MAX_STRING};

proptest! {
    #[test]
    fn handshake_frames_come_back(
        flags: u16,
        option: u32,
        reply: u32,
        data in vec(any::<u8>(), 0..64),
        name in ".{0,40}",
        wanted in vec(any::<u16>(), 0..MAX_LISTED),
        queries in vec(".{0,20}", 0..MAX_LISTED),
    ) {
        let greeting = Greeting { flags };
        prop_assert_eq!(Greeting::parse(&greeting.encode()), Ok(greeting));

        let len = u32::try_from(data.len()).unwrap();
        let (option, reply) = (OptionCode::from(option), OptionReply::from(reply));
        let frame = encode_option(option, &data);
        prop_assert_eq!(OptionHeader::parse(&frame[..16]), Ok(OptionHeader { option, len }));
        prop_assert_eq!(&frame[16..], &data[..]);

        let frame = encode_option_reply(option, reply, &data);
        let header = OptionReplyHeader { option, reply, len };
        prop_assert_eq!(OptionReplyHeader::parse(&frame[..20]), Ok(header));

        let request = ExportRequest { name: name.clone(), wanted };
        prop_assert_eq!(ExportRequest::parse(&request.encode()), Ok(request));
        let request = ContextRequest { name, queries };
        prop_assert_eq!(ContextRequest::parse(&request.encode()), Ok(request));
    }

    #[test]
    fn information_comes_back(size: u64, flags: u16, sizes: [u32; 3], text in ".{0,40}") {
        let [minimum, preferred, maximum] = sizes;
        for info in [
            Info::Export { size, flags },
            Info::Name(text.clone()),
            Info::Description(text.clone()),
            Info::BlockSizes(BlockSizes { minimum, preferred, maximum }),
        ] {
            prop_assert_eq!(Info::parse(&info.encode()), Ok(info));
        }
        let context = Context { id: minimum, name: text };
        prop_assert_eq!(Context::parse(&context.encode()), Ok(context));
    }

    #[test]
    fn requests_and_replies_come_back(
        flags: u16, code: u16, cookie: u64, offset: u64, len: u32, done: bool,
        runs in vec((1..u32::MAX, any::<u32>()), 1..50),
        message in ".{0,60}",
    ) {
        let request = Request { flags, command: Command::from(code), cookie, offset, len };
        prop_assert_eq!(Request::parse(&request.encode()), Ok(request));

        let simple = ReplyHeader::Simple { error: len, cookie };
        let chunk = ReplyHeader::Chunk { done, kind: ChunkKind::from(code), cookie, len };
        for header in [simple, chunk] {
            let frame = header.encode();
            let start = frame.first_chunk().unwrap();
            prop_assert_eq!(ReplyHeader::full_len(start), Ok(frame.len()));
            prop_assert_eq!(ReplyHeader::parse(&frame), Ok(header));
        }

        let hole = Hole { offset, len };
        prop_assert_eq!(Hole::parse(&hole.encode()), Ok(hole));
        let status = Status { context: len, runs };
        prop_assert_eq!(Status::parse(&status.encode()), Ok(status));
        let failure = Failure { errno: len, message };
        prop_assert_eq!(Failure::parse(&failure.encode()), Ok(failure));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Greeting::parse(&bytes);
        let _ = OptionHeader::parse(&bytes);
        let _ = OptionReplyHeader::parse(&bytes);
        let _ = Info::parse(&bytes);
        let _ = Context::parse(&bytes);
        let _ = Request::parse(&bytes);
        let _ = ReplyHeader::parse(&bytes);
        let _ = Hole::parse(&bytes);
        let _ = Failure::parse(&bytes);
        // What a parser keeps is never larger than what it was given.
        if let Ok(request) = ExportRequest::parse(&bytes) {
            prop_assert!(request.name.len() + 2 * request.wanted.len() <= bytes.len());
        }
        if let Ok(request) = ContextRequest::parse(&bytes) {
            prop_assert!(request.queries.len() <= bytes.len() / 4);
        }
        if let Ok(status) = Status::parse(&bytes) {
            prop_assert!(status.runs.len() <= bytes.len() / 8);
        }
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    let mut name = u32::MAX.to_be_bytes().to_vec();
    name.extend([0; 8]);
    let limit = MAX_STRING as u64;
    let what = "request for an export";
    let too_long = CodecError::TooLong { what, len: u64::from(u32::MAX), limit };
    assert_eq!(ExportRequest::parse(&name), Err(too_long));

    let mut queries = 0_u32.to_be_bytes().to_vec();
    queries.extend(u32::MAX.to_be_bytes());
    assert!(matches!(ContextRequest::parse(&queries), Err(CodecError::TooLong { .. })));

    let mut message = 5_u32.to_be_bytes().to_vec();
    message.extend(u16::MAX.to_be_bytes());
    assert!(matches!(Failure::parse(&message), Err(CodecError::TooLong { .. })));
}

#[test]
fn frames_must_end_where_they_say() {
    let frame = ExportRequest { name: "disk".to_owned(), wanted: vec![3] }.encode();
    assert!(matches!(ExportRequest::parse(&frame[..5]), Err(CodecError::Truncated(_))));
    let longer = [frame, vec![0]].concat();
    assert!(matches!(ExportRequest::parse(&longer), Err(CodecError::Trailing(_))));
    assert!(matches!(Status::parse(&[0; 12]), Err(CodecError::Invalid(_))));
    assert!(matches!(Status::parse(&[0; 4]), Err(CodecError::Invalid(_))));
    assert!(matches!(Request::parse(&[0; 28]), Err(CodecError::BadMagic { .. })));
}
