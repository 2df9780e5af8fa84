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
    let script = [&3_u32.to_be_bytes()[..], &options.concat()].concat();
    let limits = ServerOptions::default();
    negotiate(&mut &script[..], &mut tokio::io::sink(), exports, &limits).await
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

proptest! {
    #[test]
    fn no_client_makes_the_handshake_panic(
        options in vec((0..13_u32, vec(any::<u8>(), 0..60)), 0..70),
        tail in vec(any::<u8>(), 0..40),
    ) {
        let (exports, handle) = exports();
        let mut script: Vec<_> = options
            .into_iter()
            .map(|(code, data)| option(code.into(), &data))
            .collect();
        script.push(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        drop(runtime.block_on(meet(&exports, &script)));
        prop_assert_eq!(handle.sessions(), 0);
    }
}
