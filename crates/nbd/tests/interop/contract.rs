//! The contract of a block device, over the wire: our server and others behind our client.

use std::sync::Arc;

use anyhow::Result;
use hub_block::BlockDevice;
use hub_block::contract::writable;
use hub_nbd::{ClientOptions, Endpoint, NbdClient, ServerOptions};
use parking_lot::Mutex;

use crate::served::{Served, memory};
use crate::tools::{present, spawn, text};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn our_server_passes(client: ClientOptions, server: ServerOptions) -> Result<()> {
    let served = Served::start(server).await?;
    let handles = Mutex::new(Vec::new());
    let outcome = writable(|size| {
        let (served, handles, client) = (&served, &handles, client.clone());
        async move {
            let name = format!("disk-{}", handles.lock().len());
            let handle = served.offer(&name, memory(usize::try_from(size)?))?;
            handles.lock().push(handle);
            let device = NbdClient::connect(&served.endpoint(), &name, client).await?;
            Ok::<Arc<dyn BlockDevice>, AnyError>(Arc::new(device))
        }
    })
    .await;
    outcome.map_err(|error| anyhow::anyhow!(error))?;
    served.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_pass() {
    our_server_passes(ClientOptions::default(), ServerOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_pass_when_every_request_is_split() {
    let client = ClientOptions {
        connections: 3,
        in_flight: 2,
        max_request: 1000,
        ..ClientOptions::default()
    };
    let server = ServerOptions { in_flight: 2, max_payload: 4096, ..ServerOptions::default() };
    our_server_passes(client, server).await.unwrap();
}

/// Runs the suite against the memory plugin of `nbdkit` with further arguments.
async fn nbdkit_passes(arguments: &[&str]) -> Result<()> {
    if !present(&["nbdkit"])? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let children = Mutex::new(Vec::new());
    let outcome = writable(|size| {
        let (folder, children) = (folder.path(), &children);
        async move {
            let socket = folder.join(format!("{}.sock", children.lock().len()));
            let size = size.to_string();
            let mut all = vec!["-f", "-U", text(&socket)?];
            all.extend(arguments.iter().filter(|it| it.starts_with('-')));
            all.extend(["memory", &size]);
            all.extend(arguments.iter().filter(|it| !it.starts_with('-')));
            let child = spawn("nbdkit", &all, &socket).await?;
            children.lock().push(child);
            let options = ClientOptions::default();
            let device = NbdClient::connect(&Endpoint::Unix(socket), "", options).await?;
            Ok::<Arc<dyn BlockDevice>, AnyError>(Arc::new(device))
        }
    })
    .await;
    outcome.map_err(|error| anyhow::anyhow!("nbdkit {arguments:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_passes_over_other_servers() {
    nbdkit_passes(&[]).await.unwrap();
    nbdkit_passes(&["--no-sr"]).await.unwrap();
    nbdkit_passes(&["--filter=nozero"]).await.unwrap();
    nbdkit_passes(&["--filter=noextents", "--filter=multi-conn", "multi-conn-mode=disable"])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_fits_its_requests_to_a_server_with_blocks() {
    let policy = [
        "--filter=blocksize-policy",
        "blocksize-minimum=512",
        "blocksize-preferred=4096",
        "blocksize-maximum=8192",
        "blocksize-error-policy=error",
    ];
    nbdkit_passes(&policy).await.unwrap();
}
