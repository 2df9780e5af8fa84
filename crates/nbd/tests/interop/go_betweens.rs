//! Other programs between our client and our server: each is a client of the one and a server of the other.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use hub_block::contract::writable;
use hub_block::{BlockDevice, ExtentKind, MemoryDevice};
use hub_nbd::{ClientOptions, Endpoint, NbdClient, ServerOptions};
use parking_lot::Mutex;
use tokio::process::Child;

use crate::served::{Served, memory, pattern};
use crate::tools::{nbdkit, present, qemu_nbd, run, text};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const MIB: usize = 1 << 20;

/// Starts a go-between before the export that this address names; answers where it listens, and under which name.
async fn between(
    program: &str,
    flags: &[&str],
    folder: &Path,
    uri: &str,
) -> Result<(Child, Endpoint, &'static str)> {
    if program == "nbdkit" {
        let source = format!("uri={uri}");
        let (child, endpoint) = nbdkit(folder, &[flags, &["nbd", &source]].concat()).await?;
        return Ok((child, endpoint, ""));
    }
    let all = [&["-f", "raw", "--shared=0"], flags].concat();
    let (child, endpoint) = qemu_nbd(folder, &all, uri).await?;
    Ok((child, endpoint, "disk"))
}

/// The contract of a block device, with the go-between on its way.
async fn passes(program: &str) -> Result<()> {
    if !present(&[program])? {
        return Ok(());
    }
    let served = Served::start(ServerOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let alive = Mutex::new(Vec::new());
    let outcome = writable(|size| {
        let (served, folder, alive) = (&served, folder.path(), &alive);
        async move {
            let name = format!("disk-{}", alive.lock().len());
            let handle = served.offer(&name, memory(usize::try_from(size)?))?;
            let place = folder.join(&name);
            std::fs::create_dir(&place)?;
            let (child, endpoint, export) =
                between(program, &[], &place, &served.uri(&name)).await?;
            alive.lock().push((handle, child));
            let device = NbdClient::connect(&endpoint, export, ClientOptions::default()).await?;
            Ok::<Arc<dyn BlockDevice>, AnyError>(Arc::new(device))
        }
    })
    .await;
    outcome.map_err(|error| anyhow::anyhow!("{program}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_passes_through_the_nbd_plugin_of_nbdkit() {
    passes("nbdkit").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_passes_through_qemu_nbd() {
    passes("qemu-nbd").await.unwrap();
}

/// A copy through both of them, and what is told of holes on the way.
#[tokio::test(flavor = "multi_thread")]
async fn copies_and_holes_cross_both() {
    if !present(&["nbdkit", "qemu-nbd", "nbdcopy"]).unwrap() {
        return;
    }
    let mut disk = vec![0; 24 * MIB];
    disk[3 * MIB..7 * MIB].copy_from_slice(&pattern(4 * MIB));
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Arc::new(MemoryDevice::new_read_only(disk.clone()));
    let _export = served.offer("one", device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_kit, kit, _) = between("nbdkit", &[], folder.path(), &served.uri("one")).await.unwrap();
    let socket = |at: &Endpoint| at.to_string().replace("nbd+unix:", "");
    let uri = format!("nbd+unix:///?socket={}", socket(&kit));
    let (_qemu, qemu, name) = between("qemu-nbd", &["-r"], folder.path(), &uri).await.unwrap();

    let copy = folder.path().join("copy.raw");
    let end = format!("nbd+unix:///{name}?socket={}", socket(&qemu));
    run("nbdcopy", &["--connections=2", &end, text(&copy).unwrap()]).await.unwrap();
    assert!(std::fs::read(&copy).unwrap() == disk);
    let client = NbdClient::connect(&qemu, name, ClientOptions::default()).await.unwrap();
    assert!(client.read_only());
    let extents = client.extents(0, client.size()).await.unwrap();
    let data: u64 = extents.iter().filter(|it| it.kind == ExtentKind::Data).map(|it| it.len).sum();
    assert_eq!(data, 4 * MIB as u64, "{extents:?}");
}
