//! Clients whose options are well framed and otherwise arbitrary.

use hub_block::MemoryDevice;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::option::encode_option;
use crate::server::Export;

fn exports() -> (Exports, crate::server::ExportHandle) {
    let exports = Exports::new();
    let device = Arc::new(MemoryDevice::new(vec![0; 4096]));
    let export = Export { device, description: String::new(), max_connections: 1 };
    let handle = exports.add("one".to_owned(), export).unwrap();
    (exports, handle)
}

async fn meet(exports: &Exports, options: &[Vec<u8>]) -> Result<Option<Agreed>, HandshakeError> {
    match meet_over(Wire::PlainOnly, exports, options).await?.0 {
        Met::Agreed(agreed) => Ok(Some(agreed)),
        Met::Left => Ok(None),
        Met::StartTls => unreachable!("there is no TLS to begin"),
    }
}

/// What it led to, and the bytes that were left unread.
async fn meet_over(
    wire: Wire,
    exports: &Exports,
    options: &[Vec<u8>],
) -> Result<(Met, usize), HandshakeError> {
    let script = options.concat();
    let (mut script, limits) = (&script[..], ServerOptions::default());
    let sink = &mut tokio::io::sink();
    let met = negotiate(&mut script, sink, exports, &limits, (wire, false)).await?;
    Ok((met, script.len()))
}

fn option(code: OptionCode, data: &[u8]) -> Vec<u8> {
    encode_option(code, data)
}

fn contexts(name: &str, query: &str) -> Vec<u8> {
    ContextRequest { name: name.to_owned(), queries: vec![query.to_owned()] }.encode()
}

fn go(name: &str) -> Vec<u8> {
    option(OptionCode::Go, &ExportRequest { name: name.to_owned(), wanted: vec![] }.encode())
}

#[tokio::test]
async fn contexts_belong_to_the_export_they_were_asked_for() {
    let (exports, _handle) = exports();
    let device = Arc::new(MemoryDevice::new(vec![0; 512]));
    let export = Export { device, description: String::new(), max_connections: 1 };
    let _two = exports.add("two".to_owned(), export).unwrap();
    let structured = || option(OptionCode::StructuredReply, b"");
    let set = |data: &[u8]| option(OptionCode::SetMetaContext, data);
    let list = |data: &[u8]| option(OptionCode::ListMetaContext, data);
    let (mine, other) = (contexts("one", ALLOCATION), contexts("one", "x:y"));
    let cases = [
        (vec![structured(), set(&mine), go("one")], true),
        (vec![structured(), set(&mine), list(&other), go("one")], true),
        (vec![structured(), set(&mine), go("two")], false),
        (vec![structured(), set(&mine), set(&other), go("one")], false),
        (vec![structured(), list(&mine), go("one")], false),
        (vec![structured(), set(&contexts("one", "base:")), go("one")], false),
        (vec![set(&mine), structured(), go("one")], false),
    ];
    for (number, (options, expected)) in cases.into_iter().enumerate() {
        let agreed = meet(&exports, &options).await.unwrap().unwrap();
        assert_eq!(agreed.allocation, expected, "case {number}");
    }
}

#[tokio::test]
async fn a_full_export_is_refused_until_a_place_is_free() {
    let (exports, handle) = exports();
    let first = meet(&exports, &[go("one")]).await.unwrap().unwrap();
    let second = meet(&exports, &[go("one")]).await;
    assert!(matches!(second, Err(HandshakeError::Io(_))), "the client may go on asking");
    drop(first);
    assert_eq!(handle.sessions(), 0);
    assert!(meet(&exports, &[go("one")]).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_behind_the_wish_for_tls_is_read_in_the_clear() {
    let (exports, _handle) = exports();
    let tls = || option(OptionCode::StartTls, b"");
    for wire in [Wire::PlainAllowed, Wire::PlainRefused] {
        let (met, left) = meet_over(wire, &exports, &[tls(), go("one")]).await.unwrap();
        assert!(matches!(met, Met::StartTls), "{wire:?}");
        assert_eq!(left, go("one").len(), "{wire:?}");
        let with_data = option(OptionCode::StartTls, b"now");
        let met = meet_over(wire, &exports, &[with_data]).await;
        assert!(matches!(met, Err(HandshakeError::Io(_))), "it may go on asking");
    }
    for wire in [Wire::PlainOnly, Wire::Encrypted] {
        let (met, _) = meet_over(wire, &exports, &[tls(), go("one")]).await.unwrap();
        assert!(matches!(met, Met::Agreed(_)), "{wire:?}");
    }
}

#[tokio::test]
async fn in_the_clear_nothing_is_told_where_tls_is_required() {
    let (exports, handle) = exports();
    let old_way = option(OptionCode::ExportName, b"one");
    let met = meet_over(Wire::PlainRefused, &exports, &[old_way]).await;
    assert!(matches!(met, Err(HandshakeError::InTheClear)));
    let long = option(OptionCode::Info, &vec![0; 20_000]);
    let met = meet_over(Wire::PlainRefused, &exports, &[long, go("one")]).await;
    assert!(matches!(met, Err(HandshakeError::Io(_))), "it may go on asking");
    assert_eq!(handle.sessions(), 0);
    let abort = option(OptionCode::Abort, b"");
    let (met, _) = meet_over(Wire::PlainRefused, &exports, &[abort]).await.unwrap();
    assert!(matches!(met, Met::Left));
}

proptest! {
    #[test]
    fn no_client_makes_the_handshake_panic(
        options in vec((0..13_u32, vec(any::<u8>(), 0..60)), 0..70),
        tail in vec(any::<u8>(), 0..40),
        wire in 0..4_usize,
    ) {
        let wires = [Wire::PlainOnly, Wire::PlainAllowed, Wire::PlainRefused, Wire::Encrypted];
        let (exports, handle) = exports();
        let mut script: Vec<_> = options
            .into_iter()
            .map(|(code, data)| option(code.into(), &data))
            .collect();
        script.push(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        drop(runtime.block_on(meet_over(wires[wire], &exports, &script)));
        prop_assert_eq!(handle.sessions(), 0);
    }
}
