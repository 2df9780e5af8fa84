//! The contract of a block device, over the wire: our server and others behind our client.

use std::sync::Arc;

use anyhow::Result;
use hub_block::BlockDevice;
use hub_block::contract::writable;
use hub_nbd::{ClientOptions, NbdClient, ServerOptions};
use parking_lot::Mutex;

use crate::served::{Served, memory};
use crate::tools::{nbdkit, present, qemu_nbd, run, text};

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
    let (folder, children) = (tempfile::tempdir()?, Mutex::new(Vec::new()));
    let outcome = writable(|size| {
        let (folder, children) = (folder.path(), &children);
        async move {
            let place = folder.join(children.lock().len().to_string());
            std::fs::create_dir(&place)?;
            let size = size.to_string();
            let (filters, settings): (Vec<&str>, Vec<&str>) =
                arguments.iter().partition(|it| it.starts_with('-'));
            let all = [&filters[..], &["memory", &size], &settings[..]].concat();
            let (child, endpoint) = nbdkit(&place, &all).await?;
            children.lock().push(child);
            let device = NbdClient::connect(&endpoint, "", ClientOptions::default()).await?;
            Ok::<Arc<dyn BlockDevice>, AnyError>(Arc::new(device))
        }
    })
    .await;
    outcome.map_err(|error| anyhow::anyhow!("nbdkit {arguments:?}: {error}"))
}

/// Runs the suite against `qemu-nbd` over an image of this format, with further arguments.
async fn qemu_nbd_passes(format: &str, arguments: &[&str]) -> Result<()> {
    if !present(&["qemu-nbd", "qemu-img"])? {
        return Ok(());
    }
    let (folder, children) = (tempfile::tempdir()?, Mutex::new(Vec::new()));
    let outcome = writable(|size| {
        let (folder, children) = (folder.path(), &children);
        async move {
            let place = folder.join(children.lock().len().to_string());
            std::fs::create_dir(&place)?;
            let image = place.join("image");
            run("qemu-img", &["create", "-f", format, text(&image)?, &size.to_string()]).await?;
            let all = [&["-f", format, "--shared=0"], arguments].concat();
            let (child, endpoint) = qemu_nbd(&place, &all, text(&image)?).await?;
            children.lock().push(child);
            let device = NbdClient::connect(&endpoint, "disk", ClientOptions::default()).await?;
            Ok::<Arc<dyn BlockDevice>, AnyError>(Arc::new(device))
        }
    })
    .await;
    outcome.map_err(|error| anyhow::anyhow!("qemu-nbd {format} {arguments:?}: {error}"))
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

#[tokio::test(flavor = "multi_thread")]
async fn the_client_passes_through_filters_that_change_how_a_server_works() {
    let filters = [
        &["--filter=blocksize", "minblock=512", "maxdata=8k", "maxlen=64k"][..],
        &["--filter=cow"],
        &["--filter=swab", "swab-bits=64"],
        // Its extents are those beneath the cache, which do not know what was written; nbdkit's fault, not ours.
        &["--filter=noextents", "--filter=cache"],
        &["--filter=readahead"],
        &["--filter=noparallel", "serialize=all-requests"],
        &["--filter=nozero", "zeromode=emulate", "fastzeromode=none"],
        &["--filter=nozero", "--filter=noextents", "--filter=fua", "fuamode=force"],
        &["--filter=multi-conn", "multi-conn-mode=emulate"],
        &["--filter=delay", "rdelay=2ms", "wdelay=3ms", "delay-extents=1ms"],
        &["--filter=rate", "rate=200M", "connection-rate=150M"],
        &["--mask-handshake=1"],
    ];
    for arguments in filters {
        nbdkit_passes(arguments).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_passes_over_qemu_nbd() {
    qemu_nbd_passes("raw", &[]).await.unwrap();
    qemu_nbd_passes("raw", &["--discard=unmap", "--detect-zeroes=unmap"]).await.unwrap();
    qemu_nbd_passes("qcow2", &[]).await.unwrap();
}
