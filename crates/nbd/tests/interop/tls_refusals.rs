//! TLS between our own ends: who is let in, who is not, and what a cut or a lie leads to.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError};
use hub_nbd::{
    ClientOptions, ClientSecurity, ConnectError, Endpoint, NbdClient, ServerOptions, ServerSecurity,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::authority::{Authority, NAMES, own_address};
use crate::served::{Served, memory, pattern, until, within};

/// Patience that is used up in a test, with time before for what a busy machine has to do.
const SHORT: Duration = Duration::from_secs(3);
const START_TLS: u32 = 5;
const GO: u32 = 7;
const ACK: u32 = 1;
const TLS_REQUIRED: u32 = (1 << 31) + 5;

async fn required(options: ServerOptions) -> Result<(Served, Authority)> {
    let authority = Authority::new()?;
    let security = ServerSecurity::Required(authority.server(&NAMES, 4000)?);
    Ok((Served::secured(options, security).await?, authority))
}

async fn refused(endpoint: &Endpoint, options: ClientOptions) -> Result<ConnectError> {
    NbdClient::connect(endpoint, "one", options).await.err().context("it was let in")
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_arrive_unchanged_over_several_connections() {
    let (served, authority) = required(ServerOptions::default()).await.unwrap();
    let device = memory(16 << 20);
    let handle = served.offer("one", device.clone()).unwrap();
    let options = ClientOptions { connections: 4, ..authority.client("hub.internal").unwrap() };
    let client = NbdClient::connect(&served.endpoint(), "one", options).await.unwrap();
    assert_eq!(handle.sessions(), 4);
    let bytes = Bytes::from(pattern(9 << 20));
    client.write_at(777, bytes.clone()).await.unwrap();
    client.write_zeroes(10 << 20, 4096).await.unwrap();
    client.flush().await.unwrap();
    assert!(client.read_at(777, 9 << 20).await.unwrap() == bytes);
    assert!(device.snapshot()[777..777 + (9 << 20)] == bytes[..]);
    client.close().await;
    until("the places to be free", || handle.sessions() == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_certificate_is_believed() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let cases = [
        (authority.server(&NAMES, 4000), "hub.internal", None),
        (authority.server(&NAMES, 4000), "127.0.0.1", None),
        (authority.server(&NAMES, 4000), "other.internal", Some("another name")),
        (authority.server(&["10.9.8.7"], 4000), "hub.internal", Some("another name")),
        (authority.server(&NAMES, 2001), "hub.internal", Some("expired")),
        (stranger.server(&NAMES, 4000), "hub.internal", Some("not signed")),
    ];
    for (shown, name, expected) in cases {
        let security = ServerSecurity::Required(shown.unwrap());
        let served = Served::secured(ServerOptions::default(), security).await.unwrap();
        let handle = served.offer("one", memory(4096)).unwrap();
        let options = authority.client(name).unwrap();
        let met = NbdClient::connect(&served.endpoint(), "one", options).await;
        match (met, expected) {
            (Ok(client), None) => assert_eq!(client.read_at(0, 512).await.unwrap(), vec![0; 512]),
            (Err(ConnectError::Untrusted { reason, .. }), Some(words)) => {
                assert!(reason.contains(words), "{reason}");
                assert_eq!(handle.sessions(), 0);
            }
            (met, _) => panic!("{name}: {met:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_is_shown_from_the_next_connection_on() {
    let authority = Authority::new().unwrap();
    let shown = authority.server(&NAMES, 2001).unwrap();
    let security = ServerSecurity::Offered(shown.clone());
    let served = Served::secured(ServerOptions::default(), security).await.unwrap();
    let _handle = served.offer("one", memory(4096)).unwrap();
    let options = authority.client("localhost").unwrap();
    let expired = refused(&served.endpoint(), options.clone()).await.unwrap();
    assert!(matches!(expired, ConnectError::Untrusted { .. }), "{expired}");
    let fresh = authority.certify(&NAMES, 4000).unwrap();
    assert!(shown.replace(&fresh.certificate, "no key").is_err());
    shown.replace(&fresh.certificate, &fresh.key).unwrap();
    NbdClient::connect(&served.endpoint(), "one", options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_clear_there_is_loopback_or_nothing() {
    let Some(own) = own_address().unwrap() else { return };
    let authority = Authority::new().unwrap();
    let security = ServerSecurity::BeyondLoopback(authority.server(&NAMES, 4000).unwrap());
    let served =
        Served::listening(([0; 4], 0).into(), ServerOptions::default(), security).await.unwrap();
    let _handle = served.offer("one", memory(4096)).unwrap();
    let at = |host: String| Endpoint::Tcp { host, port: served.addr.port() };
    let (near, far) = (at("127.0.0.1".to_owned()), at(own.to_string()));
    let careful =
        || ClientOptions { security: ClientSecurity::PlainOnLoopback, ..ClientOptions::default() };
    let tls = || authority.client("hub.internal").unwrap();
    for options in [ClientOptions::default(), careful(), tls()] {
        NbdClient::connect(&near, "one", options).await.unwrap();
    }
    NbdClient::connect(&far, "one", tls()).await.unwrap();
    let error = refused(&far, ClientOptions::default()).await.unwrap();
    assert!(matches!(error, ConnectError::TlsRequired { .. }), "{error}");
    let error = refused(&far, careful()).await.unwrap();
    assert!(matches!(error, ConnectError::PlainRefused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_must_not_speak_in_the_clear_sends_no_byte() {
    let Some(own) = own_address().unwrap() else { return };
    let listener = TcpListener::bind((own, 0)).await.unwrap();
    let endpoint =
        Endpoint::Tcp { host: own.to_string(), port: listener.local_addr().unwrap().port() };
    let security = ClientSecurity::PlainOnLoopback;
    let options = ClientOptions { security, ..ClientOptions::default() };
    let heard = async {
        let (mut stream, _) = listener.accept().await?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await?;
        anyhow::Ok(heard)
    };
    let (error, heard) = tokio::join!(refused(&endpoint, options), heard);
    let error = error.unwrap();
    assert!(matches!(error, ConnectError::PlainRefused { .. }), "{error}");
    assert!(heard.unwrap().is_empty());
}

/// A client made of bytes, after the greeting.
struct Raw(TcpStream);

impl Raw {
    async fn greeted(served: &Served) -> Result<Self> {
        let mut raw = Self(TcpStream::connect(served.addr).await?);
        within("the greeting", raw.0.read_exact(&mut [0; 18])).await??;
        raw.0.write_all(&3_u32.to_be_bytes()).await?;
        Ok(raw)
    }

    async fn ask(&mut self, option: u32) -> Result<u32> {
        self.0.write_all(&frame(option)).await?;
        let mut head = [0; 20];
        within("a reply", self.0.read_exact(&mut head)).await??;
        let len = u32::from_be_bytes(head[16..].try_into()?);
        within("a reply", self.0.read_exact(&mut vec![0; usize::try_from(len)?])).await??;
        Ok(u32::from_be_bytes(head[12..16].try_into()?))
    }

    /// What the server still says before it hangs up.
    async fn last_words(mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        // A reset is a way to hang up.
        let _ = within("the server to hang up", self.0.read_to_end(&mut rest)).await?;
        Ok(rest)
    }
}

fn frame(option: u32) -> Vec<u8> {
    let data: &[u8] = if option == GO { b"\0\0\0\x03one\0\0" } else { b"" };
    let len = u32::try_from(data.len()).unwrap_or_default().to_be_bytes();
    [b"IHAVEOPT", &option.to_be_bytes()[..], &len, data].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_in_the_clear_gets_the_standard_answer() {
    let (served, _authority) = required(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", memory(4096)).unwrap();
    let mut raw = Raw::greeted(&served).await.unwrap();
    for option in [3, 6, GO, 8, 9, 10, 4711] {
        assert_eq!(raw.ask(option).await.unwrap(), TLS_REQUIRED, "option {option}");
    }
    assert_eq!(raw.ask(START_TLS).await.unwrap(), ACK);
    let mut old = Raw::greeted(&served).await.unwrap();
    old.0.write_all(&[b"IHAVEOPT", &[0, 0, 0, 1, 0, 0, 0, 3][..], b"one"].concat()).await.unwrap();
    assert!(old.last_words().await.unwrap().is_empty());
    assert_eq!(handle.sessions(), 0);
}

/// Who sends options behind the wish for TLS in one piece would have them taken for encrypted ones.
#[tokio::test(flavor = "multi_thread")]
async fn options_smuggled_in_behind_the_wish_for_tls_reach_nobody() {
    let (served, _authority) = required(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", memory(4096)).unwrap();
    let mut raw = Raw::greeted(&served).await.unwrap();
    raw.0.write_all(&[frame(START_TLS), frame(GO)].concat()).await.unwrap();
    let words = raw.last_words().await.unwrap();
    let marks = words.windows(8).filter(|it| **it == 0x0003_e889_0455_65a9_u64.to_be_bytes());
    assert_eq!(marks.count(), 1, "only the wish for TLS is answered: {words:?}");
    assert_eq!(handle.sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_in_place_of_tls_free_their_place() {
    let short = ServerOptions { handshake_timeout: SHORT, ..ServerOptions::default() };
    let (served, authority) = required(short).await.unwrap();
    let _handle = served.offer("one", memory(4096)).unwrap();
    let beginnings: [&[u8]; 5] = [
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n",
        &[0xff; 20_000],
    ];
    let mut begun = Vec::new();
    for bytes in beginnings {
        let mut raw = Raw::greeted(&served).await.unwrap();
        assert_eq!(raw.ask(START_TLS).await.unwrap(), ACK);
        // The server may have hung up half-way, which is what is wanted.
        let _ = raw.0.write_all(bytes).await;
        begun.push(raw);
    }
    for raw in begun {
        raw.last_words().await.unwrap();
    }
    let options = ClientOptions { connections: 1, ..authority.client("localhost").unwrap() };
    NbdClient::connect(&served.endpoint(), "one", options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_tls_connections_keep_nobody_away() {
    let few = ServerOptions { max_sessions: 4, ..ServerOptions::default() };
    let (served, authority) = required(few).await.unwrap();
    let _handle = served.offer("one", memory(4096)).unwrap();
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::greeted(&served).await.unwrap();
        assert_eq!(raw.ask(START_TLS).await.unwrap(), ACK);
        silent.push(raw);
    }
    let (endpoint, options) = (served.endpoint(), authority.client("localhost").unwrap());
    let client = NbdClient::connect(&endpoint, "one", options);
    within("a place", client).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_never_begins_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let endpoint = Endpoint::Tcp { host: addr.ip().to_string(), port: addr.port() };
    let options = ClientOptions {
        connect_timeout: SHORT,
        ..Authority::new().unwrap().client("hub.internal").unwrap()
    };
    let silent = async {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await?;
        stream.read_exact(&mut [0; 20]).await?;
        stream.write_all(&[0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 5]).await?;
        stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0]).await?;
        let mut hello = Vec::new();
        stream.read_to_end(&mut hello).await?;
        anyhow::Ok(hello)
    };
    let (error, hello) = tokio::join!(refused(&endpoint, options), silent);
    let error = error.unwrap();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    let hello = hello.unwrap();
    assert_eq!(hello[0], 0x16, "what follows the yes is TLS");
    assert!(!hello.windows(3).any(|it| it == b"one"), "the name is not told before TLS stands");
}

/// What a server, or somebody before it, says in the clear behind its yes would be taken for encrypted answers.
#[tokio::test]
async fn answers_smuggled_in_behind_the_yes_to_tls_are_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let endpoint = Endpoint::Tcp { host: addr.ip().to_string(), port: addr.port() };
    let options = Authority::new().unwrap().client("hub.internal").unwrap();
    let reply = |option: u8| {
        [&[0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9][..], &[0, 0, 0, option, 0, 0, 0, 1, 0, 0, 0, 0]]
            .concat()
    };
    let liar = async {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await?;
        stream.read_exact(&mut [0; 20]).await?;
        // Yes to TLS, to structured replies and to the export.
        stream.write_all(&[reply(5), reply(8), reply(7)].concat()).await?;
        let mut heard = Vec::new();
        // The client may reset the connection, which is a way to hang up.
        let _ = stream.read_to_end(&mut heard).await;
        anyhow::Ok(heard)
    };
    let (error, heard) = tokio::join!(refused(&endpoint, options), liar);
    let error = error.unwrap();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert!(!heard.unwrap().windows(3).any(|it| it == b"one"), "the name was told");
}

/// Passes bytes on in both directions and hangs up after so many from the client.
async fn cut_after(limit: u64, to: std::net::SocketAddr) -> Result<(Endpoint, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let Ok((mut near, _)) = listener.accept().await else { return };
        let Ok(mut far) = TcpStream::connect(to).await else { return };
        let ((near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
        let mut limited = near_in.take(limit);
        tokio::select! {
            _ = tokio::io::copy(&mut limited, &mut far_out) => {}
            _ = tokio::io::copy(&mut far_in, &mut near_out) => {}
        }
    });
    Ok((Endpoint::Tcp { host: addr.ip().to_string(), port: addr.port() }, tasks))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_a_record_is_a_lost_connection_and_writes_nothing() {
    let (served, authority) = required(ServerOptions::default()).await.unwrap();
    let device = memory(4 << 20);
    let handle = served.offer("one", device.clone()).unwrap();
    // Somewhere in the second MiB of payload; records have 16 KiB.
    let (endpoint, _proxy) = cut_after((1 << 20) + 100_003, served.addr).await.unwrap();
    let options = ClientOptions { connections: 1, ..authority.client("localhost").unwrap() };
    let client = NbdClient::connect(&endpoint, "one", options).await.unwrap();
    client.write_at(0, Bytes::from(vec![1; 1 << 19])).await.unwrap();
    let cut = client.write_at(1 << 20, Bytes::from(vec![2; 1 << 20])).await;
    assert!(matches!(cut, Err(BlockError::Disconnected(_))), "{cut:?}");
    until("the place to be free", || handle.sessions() == 0).await.unwrap();
    let found = device.snapshot();
    assert!(found[..1 << 19].iter().all(|it| *it == 1));
    assert!(found[1 << 19..].iter().all(|it| *it == 0), "half a payload reached the device");
}
