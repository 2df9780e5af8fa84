//! Servers that do not behave in the handshake, as scripts of bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::option::encode_option_reply;

const EXPORT: &str = "capability";

async fn meet(script: &[u8]) -> Result<Agreed, Failure> {
    let contexts = [ALLOCATION.to_owned()];
    let mut stream = tokio::io::join(script, tokio::io::sink());
    greet(&mut stream).await?;
    negotiate(&mut stream.reader_mut(), &mut tokio::io::sink(), EXPORT, &contexts).await
}

/// Asks for TLS; the bytes of the script that were left unread.
async fn ask_for_tls(script: &[u8]) -> Result<usize, Failure> {
    let mut stream = tokio::io::join(script, tokio::io::sink());
    greet(&mut stream).await?;
    start_tls(&mut stream).await?;
    Ok(stream.reader().len())
}

fn greeting() -> Vec<u8> {
    Greeting { flags: FIXED_NEWSTYLE | NO_ZEROES }.encode()
}

fn reply(option: OptionCode, reply: OptionReply, data: &[u8]) -> Vec<u8> {
    encode_option_reply(option, reply, data)
}

/// A server without structured replies that answers GO with these pieces.
fn plain(pieces: &[Info], end: OptionReply, words: &str) -> Vec<u8> {
    let mut script = greeting();
    script.extend(reply(OptionCode::StructuredReply, OptionReply::Unsupported, b""));
    for piece in pieces {
        script.extend(reply(OptionCode::Go, OptionReply::Info, &piece.encode()));
    }
    script.extend(reply(OptionCode::Go, end, words.as_bytes()));
    script
}

fn sizes(minimum: u32, maximum: u32) -> Info {
    Info::BlockSizes(BlockSizes { minimum, preferred: 4096, maximum })
}

const DISK: Info = Info::Export { size: 4096, flags: flags::HAS_FLAGS };

#[tokio::test]
async fn a_plain_server_is_enough() {
    let script = plain(&[DISK, sizes(512, 65_536), Info::Other(99)], OptionReply::Ack, "");
    let agreed = meet(&script).await.unwrap();
    assert_eq!((agreed.size, agreed.sizes.minimum, agreed.structured), (4096, 512, false));
    assert!(agreed.contexts.is_empty());
}

#[tokio::test]
async fn a_server_that_makes_no_sense_is_refused() {
    let huge = Info::Export { size: 1 << 63, flags: flags::HAS_FLAGS };
    let bare = Info::Export { size: 4096, flags: 0 };
    for pieces in [
        vec![],
        vec![huge],
        vec![bare],
        vec![DISK, sizes(0, 4096)],
        vec![DISK, sizes(3, 4096)],
        vec![DISK, sizes(1 << 17, 1 << 20)],
        vec![DISK, sizes(512, 256)],
    ] {
        let met = meet(&plain(&pieces, OptionReply::Ack, "")).await;
        assert!(matches!(met, Err(Failure::Protocol(_))), "{pieces:?}: {met:?}");
    }
    let old = Greeting { flags: 0 }.encode();
    assert!(matches!(meet(&old).await, Err(Failure::Protocol(_))));
    let mut other = greeting();
    other.extend(reply(OptionCode::Go, OptionReply::Ack, b""));
    assert!(matches!(meet(&other).await, Err(Failure::Protocol(_))));
    let endless = plain(&vec![Info::Other(7); 200], OptionReply::Ack, "");
    assert!(matches!(meet(&endless).await, Err(Failure::Protocol(_))));
    let mut long = greeting();
    long.extend(&reply(OptionCode::StructuredReply, OptionReply::Ack, b"")[..16]);
    long.extend(u32::MAX.to_be_bytes());
    assert!(matches!(meet(&long).await, Err(Failure::Protocol(_))));
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words_but_never_the_name() {
    let met = meet(&plain(&[], OptionReply::Policy, "capability is\nbusy")).await;
    let error = met.unwrap_err().at("nbd://hub:1".to_owned());
    assert_eq!(error.to_string(), "nbd://hub:1 refuses the export: (the export) isbusy");
    let met = meet(&plain(&[], OptionReply::Shutdown, "")).await;
    let error = met.unwrap_err().at("nbd://hub:1".to_owned());
    assert_eq!(error.to_string(), "nbd://hub:1 refuses the export: Shutdown");
    let met = meet(&plain(&[], OptionReply::TlsRequired, "TLS, please")).await;
    let error = met.unwrap_err().at("nbd://hub:1".to_owned());
    assert_eq!(error.to_string(), "nbd://hub:1 requires TLS");
    let met = meet(&plain(&[], OptionReply::Unknown, "no capability")).await;
    assert!(matches!(met, Err(Failure::Unknown)));
}

#[tokio::test]
async fn a_server_cannot_talk_a_client_out_of_tls() {
    let answer = |kind, data: &[u8]| {
        [greeting(), reply(OptionCode::StartTls, kind, data), b"more".to_vec()].concat()
    };
    let left = ask_for_tls(&answer(OptionReply::Ack, b"")).await.unwrap();
    assert_eq!(left, 4, "nothing behind the yes is read in the clear");
    for no in [
        OptionReply::Unsupported,
        OptionReply::Policy,
        OptionReply::Platform,
        OptionReply::Unknown,
        OptionReply::TlsRequired,
        OptionReply::Other(u32::MAX),
    ] {
        let met = ask_for_tls(&answer(no, b"no")).await;
        assert!(matches!(met, Err(Failure::TlsRefused(_))), "{no:?}: {met:?}");
    }
    let mut chatty = [greeting(), reply(OptionCode::StartTls, OptionReply::Info, b"x")].concat();
    chatty.extend(reply(OptionCode::StartTls, OptionReply::Ack, b""));
    assert!(matches!(ask_for_tls(&chatty).await, Err(Failure::Protocol(_))));
    assert!(matches!(ask_for_tls(&greeting()).await, Err(Failure::Io(_))));
}

proptest! {
    #[test]
    fn no_server_makes_the_handshake_panic(
        replies in vec((0..12_u32, 0..5_u32, any::<bool>(), vec(any::<u8>(), 0..40)), 0..12),
        tail in vec(any::<u8>(), 0..40),
    ) {
        let mut script = greeting();
        for (option, kind, error, data) in replies {
            let kind = OptionReply::from(kind | if error { 1 << 31 } else { 0 });
            script.extend(reply(option.into(), kind, &data));
        }
        script.extend(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // Whatever it is, it ends: with an agreement or with an error.
        let _ = runtime.block_on(meet(&script));
    }
}
