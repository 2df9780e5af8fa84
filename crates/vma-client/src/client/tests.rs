//! Against a scripted server on a socket: what each kind of peer makes of a call.

use std::sync::{Arc, Mutex};

use hub_domain::ids::VmaNodeId;
use hub_domain::source::CopyPhase;
use hub_domain::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const TOKEN: &str = "the-shared-token";

/// What an introduction has to cover.
const CHALLENGE: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// What the server does with a request after the identity call.
#[derive(Clone)]
enum Script {
    /// A status line's number and a JSON body.
    Answer(u16, String),
    /// Bytes as they are, then the connection ends.
    Bytes(Vec<u8>),
    /// Nothing, ever.
    Silence,
}

/// A server whose identity call works with `token`, and everything else by script; it notes each request head.
struct Peer {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Peer {
    async fn start(token: &'static str, script: Script) -> std::io::Result<Self> {
        Self::at("127.0.0.1:0", token, script).await
    }

    async fn at(address: &str, token: &'static str, script: Script) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let noted = heads.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, token, script.clone(), noted.clone()));
            }
        });
        Ok(Self { url, heads, tasks })
    }

    /// Ends it; its address is free for another one.
    async fn end(mut self) -> String {
        self.tasks.shutdown().await;
        self.url.trim_start_matches("http://").to_owned()
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().map(|heads| heads.clone()).unwrap_or_default()
    }
}

async fn serve(
    mut stream: TcpStream,
    token: &'static str,
    script: Script,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let Some(head) = request_head(&mut stream).await else { return };
    if let Ok(mut heads) = heads.lock() {
        heads.push(head.clone());
    }
    let script = match identity(&head, token) {
        Some(body) => Script::Answer(200, body),
        None => script,
    };
    let bytes = match script {
        Script::Answer(status, body) => format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
        Script::Bytes(bytes) => bytes,
        Script::Silence => return std::future::pending().await,
    };
    // The client may hang up early on purpose, so that an error here says nothing.
    if stream.write_all(&bytes).await.is_ok() {
        stream.shutdown().await.ok();
    }
}

/// Reads a head and its body, so that closing the socket does not reset the answer away.
async fn request_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0_u8; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:").map(|it| it.trim().to_owned())
        });
        if body.len() >= length.and_then(|it| it.parse().ok()).unwrap_or(0) {
            return Some(head.to_owned());
        }
    }
}

fn identity(head: &str, token: &str) -> Option<String> {
    let nonce = head.strip_prefix("GET /api/v1/identity?nonce=")?.split(' ').next()?;
    let nonce = hex::decode(nonce).ok()?;
    let key = blake3::derive_key(hub_vma_api::PROOF_CONTEXT, token.as_bytes());
    let proof = blake3::keyed_hash(&key, &nonce).to_hex();
    Some(format!(
        r#"{{"name":"vma-1","version":"0.1.0","api_version":1,"source_kind":"folder","proof":"{proof}","challenge":"{CHALLENGE}"}}"#
    ))
}

fn client(options: VmaClientOptions) -> Result<VmaClient, ClientError> {
    // A second installation is refused, which is as good as the first.
    rustls::crypto::ring::default_provider().install_default().ok();
    VmaClient::new(options)
}

fn node(url: &str) -> VmaNode {
    VmaNode {
        id: VmaNodeId::from_uuid(Default::default()),
        name: "vma-1".to_owned(),
        url: url.to_owned(),
        token: TOKEN.into(),
        source_kind: "folder".to_owned(),
        source: Default::default(),
        limits: Default::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

/// What becomes of asking for the progress of `job` at a peer with this script.
async fn status(script: Script) -> Result<CopyStatus, SourceError> {
    // Longer than any machine takes for an answer.
    status_within(Duration::from_secs(120), script).await
}

async fn status_within(quick: Duration, script: Script) -> Result<CopyStatus, SourceError> {
    let peer = Peer::start(TOKEN, script).await.map_err(|error| SourceError::Unreachable {
        url: String::new(),
        detail: error.to_string(),
    })?;
    let options = VmaClientOptions { quick, report_limit: 1000, ..VmaClientOptions::default() };
    let client = client(options).map_err(|_| SourceError::NotTheNode { url: String::new() })?;
    client.copy_status(&node(&peer.url), "job").await
}

fn problem(code: &str) -> String {
    format!(
        r#"{{"type":"/problems/{code}","title":"t","status":404,"detail":"d","code":"{code}"}}"#
    )
}

#[tokio::test]
async fn a_node_that_knows_the_token_is_asked_with_it() {
    let report = r#"{"job_id":"job","state":"running","disks":[]}"#;
    let peer = Peer::start(TOKEN, Script::Answer(200, report.to_owned())).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    let status = client.copy_status(&node(&peer.url), "job").await.unwrap();
    assert_eq!(status.phase, CopyPhase::Running);
    client.copy_status(&node(&peer.url), "job").await.unwrap();
    let heads = peer.heads();
    assert_eq!(heads.len(), 4, "each poll has a proof of its own: {heads:?}");
    for poll in heads.chunks(2) {
        assert!(!poll[0].to_ascii_lowercase().contains("authorization"));
        assert!(poll[1].starts_with("GET /api/v1/progress/job "));
        assert!(poll[1].contains(&format!("Bearer {TOKEN}")));
    }
}

#[tokio::test]
async fn a_node_is_told_what_is_known_and_how_long_to_wait() {
    let report = r#"{"job_id":"job","state":"running","disks":[]}"#;
    let peer = Peer::start(TOKEN, Script::Answer(200, report.to_owned())).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    let patience = Duration::from_millis(300);
    client.await_copy(&node(&peer.url), "job", 2, patience).await.unwrap();
    let asked = peer.heads().pop().unwrap();
    assert!(asked.starts_with("GET /api/v1/progress/job?ended=2&wait_ms=300 "), "{asked}");
}

#[tokio::test]
async fn a_node_is_told_to_forget_what_a_copy_owes() {
    let answer = Script::Answer(200, r#"{"struck_off":true}"#.to_owned());
    let peer = Peer::start(TOKEN, answer).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    assert!(client.strike_off(&node(&peer.url), "job").await.unwrap());
    let asked = peer.heads().pop().unwrap();
    assert!(asked.starts_with("POST /api/v1/snapshots/strike-off "), "{asked}");
}

#[tokio::test]
async fn an_introduction_shows_no_token_and_covers_certificate_and_challenge() {
    let answer = Script::Answer(200, r#"{"authority":"ab"}"#.to_owned());
    let peer = Peer::start(TOKEN, answer).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap().introducing("PEM".to_owned());
    assert_eq!(client.introduce(&node(&peer.url)).await.unwrap().name, "vma-1");
    let heads = peer.heads();
    assert!(heads[1].starts_with("POST /api/v1/introduction "), "{heads:?}");
    assert!(!heads.concat().to_ascii_lowercase().contains("authorization"), "{heads:?}");
    let proof = |token, challenge, pem| proof::of_certificate(token, &[challenge; 32], pem);
    let right = proof(TOKEN, 1, "PEM");
    for other in [proof("another token", 1, "PEM"), proof(TOKEN, 2, "PEM"), proof(TOKEN, 1, "P")] {
        assert_ne!(other, right);
    }
    let stranger = Peer::start("another token", Script::Silence).await.unwrap();
    let refused = client.introduce(&node(&stranger.url)).await;
    assert!(matches!(refused, Err(SourceError::NotTheNode { .. })), "{refused:?}");
    assert_eq!(stranger.heads().len(), 1, "a stranger learns nothing about the hub");
}

#[tokio::test]
async fn a_stranger_never_sees_the_token() {
    let peer = Peer::start("another token", Script::Answer(200, "{}".to_owned())).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    let node = node(&peer.url);
    let asked = client.copy_status(&node, "job").await;
    assert!(matches!(asked, Err(SourceError::NotTheNode { .. })), "{asked:?}");
    let asked = client.identify(&node).await;
    assert!(matches!(asked, Err(SourceError::NotTheNode { .. })), "{asked:?}");
    assert!(peer.heads().iter().all(|head| !head.contains(TOKEN)));
}

#[tokio::test]
async fn a_stranger_who_takes_over_the_address_never_sees_the_token() {
    let report = r#"{"job_id":"job","state":"running","disks":[]}"#;
    let peer = Peer::start(TOKEN, Script::Answer(200, report.to_owned())).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    let node = node(&peer.url);
    client.copy_status(&node, "job").await.unwrap();
    let address = peer.end().await;
    let stranger = Script::Answer(200, report.to_owned());
    let stranger = Peer::at(&address, "another token", stranger).await.unwrap();
    let asked = client.copy_status(&node, "job").await;
    assert!(matches!(asked, Err(SourceError::NotTheNode { .. })), "{asked:?}");
    let heads = stranger.heads();
    assert!(!heads.is_empty() && heads.iter().all(|head| !head.contains(TOKEN)), "{heads:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Peer::start(TOKEN, Script::Answer(200, "{}".to_owned())).await.unwrap();
    let redirect = format!(
        "HTTP/1.1 307 X\r\nlocation: {}/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        other.url
    );
    let asked = status(Script::Bytes(redirect.into_bytes())).await;
    assert!(matches!(asked, Err(SourceError::Garbled { .. })), "{asked:?}");
    assert_eq!(other.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_named() {
    let asked = status_within(Duration::from_millis(300), Script::Silence).await;
    let Err(SourceError::Unreachable { detail, url }) = asked else { panic!("{asked:?}") };
    assert!(detail.contains("no complete answer"), "{detail}");
    assert!(url.starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_peer_that_is_down_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(VmaClientOptions::default()).unwrap();
    let asked = client.identify(&node(&url)).await;
    assert!(matches!(asked, Err(SourceError::Unreachable { .. })), "{asked:?}");
    for odd in ["not a url", "ftp://host/", "file:///etc/passwd"] {
        let asked = client.identify(&node(odd)).await;
        assert!(matches!(asked, Err(SourceError::Unreachable { .. })), "{odd}: {asked:?}");
    }
}

#[tokio::test]
async fn rubbish_is_garbled_and_never_believed() {
    for rubbish in ["<html>", "", "[]", r#"{"job_id":"other","state":"running","disks":[]}"#] {
        let asked = status(Script::Answer(200, rubbish.to_owned())).await;
        assert!(matches!(asked, Err(SourceError::Garbled { .. })), "{rubbish}: {asked:?}");
    }
    let asked = status(Script::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())).await;
    assert!(matches!(asked, Err(SourceError::Garbled { .. })), "{asked:?}");
}

#[tokio::test]
async fn an_answer_that_ends_early_is_of_a_node_that_went_down_and_may_come_back() {
    for cut in
        ["content-length: 100\r\n\r\n{\"job_id\":", "transfer-encoding: chunked\r\n\r\n9\r\n{"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n{cut}").into_bytes();
        let asked = status(Script::Bytes(bytes)).await;
        assert!(matches!(asked, Err(SourceError::Unreachable { .. })), "{cut}: {asked:?}");
    }
}

#[tokio::test]
async fn a_huge_answer_is_cut_off_announced_or_not() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{".to_vec();
    let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    endless.extend(vec![b' '; 100_000]);
    for bytes in [announced, endless] {
        let asked = status(Script::Bytes(bytes)).await;
        let Err(SourceError::Garbled { detail, .. }) = asked else { panic!("{asked:?}") };
        assert!(detail.contains("longer than 1000 bytes"), "{detail}");
    }
}

#[tokio::test]
async fn refusals_keep_their_code_and_trap_d38_a_forgotten_job_is_told_apart() {
    let asked = status(Script::Answer(409, problem("source/vm-running-without-snapshot"))).await;
    let Err(SourceError::Refused(fault)) = asked else { panic!("{asked:?}") };
    assert_eq!(fault.code, "source/vm-running-without-snapshot");
    assert_eq!(fault.detail, "d");
    let asked = status(Script::Answer(404, problem("copy/job-not-found"))).await;
    assert!(matches!(&asked, Err(SourceError::UnknownJob { job }) if job == "job"), "{asked:?}");
    let asked = status(Script::Answer(401, problem("vma/unauthorized"))).await;
    assert!(matches!(asked, Err(SourceError::TokenRefused { .. })), "{asked:?}");
    let asked = status(Script::Answer(500, "oops".to_owned())).await;
    assert!(matches!(asked, Err(SourceError::Garbled { .. })), "{asked:?}");
    let asked = status(Script::Answer(503, "<html>".to_owned())).await;
    assert!(matches!(asked, Err(SourceError::Unreachable { .. })), "{asked:?}");
    let asked = status(Script::Answer(409, problem("../../<script>"))).await;
    assert!(matches!(&asked, Err(SourceError::Refused(fault)) if fault.code == "vma/refused"));
}

#[tokio::test]
async fn an_inventory_with_a_bad_vm_is_not_lost() {
    let body = r#"{"vcenter":{"host":"lab"},"vms":[{"id":"1","name":"a","disks":[{"id":"disk-2000","capacity_bytes":0}]},
        {"id":"2","name":"b","disks":[{"id":"disk-2000","capacity_bytes":512}]}]}"#;
    let peer = Peer::start(TOKEN, Script::Answer(200, body.to_owned())).await.unwrap();
    let client = client(VmaClientOptions::default()).unwrap();
    let seen = client.inventory(&node(&peer.url), &InventoryQuery::default()).await.unwrap();
    assert_eq!(seen.vms.len(), 1);
    assert_eq!(seen.rejected[0].subject, "a");
    assert!(peer.heads()[1].starts_with("POST /api/v1/discover "));
}

/// A server that is gone is asked once, and again when its silence is forgotten or it has another address.
#[tokio::test]
async fn a_node_that_was_silent_a_moment_ago_is_not_asked_again() {
    let peer = Peer::start(TOKEN, Script::Silence).await.unwrap();
    let patient = client(VmaClientOptions::default()).unwrap();
    let node = node(&peer.url);
    patient.answers(&node).await.unwrap();
    patient.answers(&node).await.unwrap();
    assert_eq!(peer.heads().len(), 2, "one that answers is asked each time");
    let address = peer.end().await;
    let silent = patient.answers(&node).await.unwrap_err();
    assert!(matches!(silent, SourceError::Unreachable { .. }), "{silent}");
    let peer = Peer::at(&address, TOKEN, Script::Silence).await.unwrap();
    let still = patient.answers(&node).await.unwrap_err();
    assert_eq!(still.to_string(), silent.to_string());
    assert!(peer.heads().is_empty());
    patient.identify(&node).await.unwrap();
    let moved = VmaNode { url: peer.url.replace("127.0.0.1", "localhost"), ..node.clone() };
    patient.answers(&moved).await.unwrap();
    patient.answers(&node).await.unwrap();
}
