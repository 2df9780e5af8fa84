//! Peers that say anything at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_block::{BlockDevice, MemoryDevice};
use hub_nbd::{ClientOptions, Endpoint, Export, Exports, NbdClient, Server, ServerOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The export that a client may name; short, so that a fuzzer finds it.
pub const EXPORT: &str = "a";

/// Bytes of the exported disk.
const SIZE: usize = 64 * 1024;

/// Far more than any session of a few bytes takes; who needs longer hangs.
const WITHIN: Duration = Duration::from_secs(20);

/// Plays a client that says `data`, then nothing more: the server ends the session and serves the next one.
pub fn server(data: &[u8]) -> Result<()> {
    runtime()?.block_on(async {
        let exports = Exports::new();
        let device = Arc::new(MemoryDevice::new(vec![1; SIZE]));
        let export = Export { device, description: "a disk".to_owned(), max_connections: 2 };
        let _offered = exports.add(EXPORT.to_owned(), export)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, exports, ServerOptions::default()).await?;
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        let mut said = TcpStream::connect(address).await?;
        // A server that has heard enough closes; then the rest cannot be said.
        drop(said.write_all(data).await);
        drop(said.shutdown().await);
        let mut answer = Vec::new();
        let heard = tokio::time::timeout(WITHIN, said.read_to_end(&mut answer)).await;
        assert!(heard.is_ok(), "the server does not end a session whose client has gone");
        let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
        let next = NbdClient::connect(&endpoint, EXPORT, ClientOptions::default());
        let next = tokio::time::timeout(WITHIN, next).await.context("the next client waits")??;
        assert_eq!(next.size(), 64 * 1024);
        next.close().await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}

/// Plays a server that says `data`, whatever it is asked, then nothing more.
pub fn client(data: &[u8]) -> Result<()> {
    let place = tempfile::tempdir()?;
    let socket = place.path().join("socket");
    runtime()?.block_on(async {
        let listener = UnixListener::bind(&socket)?;
        let data: Arc<[u8]> = data.into();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let data = data.clone();
                sessions.spawn(async move {
                    // The client may hang up at any time.
                    drop(stream.write_all(&data).await);
                    drop(stream.shutdown().await);
                    let mut heard = [0; 4096];
                    while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {}
                });
            }
        });
        let endpoint = Endpoint::Unix(socket.clone());
        let talk = tokio::time::timeout(WITHIN, converse(&endpoint));
        assert!(talk.await.is_ok(), "the client waits for a server that has gone");
        Ok(())
    })
}

/// Asks for everything that a client can; what is answered has the length that was asked for.
async fn converse(endpoint: &Endpoint) {
    let Ok(client) = NbdClient::connect(endpoint, EXPORT, ClientOptions::default()).await else {
        return;
    };
    let size = client.size();
    let len = u32::try_from(size.min(4096)).unwrap_or(4096);
    if let Ok(read) = client.read_at(0, len).await {
        assert_eq!(read.len(), len as usize);
    }
    let asked = size.min(1 << 40);
    if let Ok(extents) = client.extents(0, asked).await {
        let ends = extents.iter().fold(0, |end, it| {
            assert_eq!(it.offset, end, "extents follow each other");
            it.offset + it.len
        });
        assert_eq!(ends, asked, "extents cover what was asked for");
    }
    // Whether these are done is the server's affair.
    drop(client.write_zeroes(0, u64::from(len)).await);
    drop(client.flush().await);
    client.close().await;
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Reads bytes as a vCenter's answer to everything that is asked of one.
#[cfg(feature = "vma")]
pub fn vsphere_answer(data: &[u8]) -> Result<()> {
    let kinds = hub_vsphere::answers_in(data);
    assert!(
        kinds <= 3,
        "a question for properties has three kinds of answers, any other one: {kinds}"
    );
    Ok(())
}
