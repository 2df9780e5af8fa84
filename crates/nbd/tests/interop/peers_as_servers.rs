//! Our client on the servers that people use: qemu-nbd and nbdkit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, ExtentKind};
use hub_nbd::{ClientOptions, ConnectError, Endpoint, NbdClient, StatusExtent};

use crate::served::pattern;
use crate::tools::{nbdkit, present, qemu_nbd, run, text};

const MIB: u64 = 1 << 20;
const DEPTH: &str = "qemu:allocation-depth";

/// A base of 4 MiB with data in its first two, and an overlay with data in its second.
async fn vmdk_chain(folder: &Path) -> Result<PathBuf> {
    let (base, overlay) = (folder.join("base.vmdk"), folder.join("overlay.vmdk"));
    let raw = folder.join("base.raw");
    let mut bytes = pattern(2 << 20);
    bytes.resize(4 << 20, 0);
    std::fs::write(&raw, bytes)?;
    run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", text(&raw)?, text(&base)?]).await?;
    let create = ["create", "-f", "vmdk", "-F", "vmdk", "-b", text(&base)?, text(&overlay)?];
    run("qemu-img", &create).await?;
    run("qemu-io", &["-f", "vmdk", "-c", "write -P 9 1M 512k", text(&overlay)?]).await?;
    Ok(overlay)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_behind_qemu_nbd() {
    if !present(&["qemu-nbd"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(16 * MIB).unwrap();
    let (_child, endpoint) =
        qemu_nbd(folder.path(), &["-f", "raw", "--shared=4"], text(&image).unwrap()).await.unwrap();
    let options = ClientOptions { connections: 4, ..ClientOptions::default() };
    let client = NbdClient::connect(&endpoint, "disk", options).await.unwrap();
    assert!(client.has_context("base:allocation") && !client.has_context(DEPTH));

    let bytes = pattern(3 << 20);
    client.write_at(MIB + 700, Bytes::from(bytes.clone())).await.unwrap();
    client.write_zeroes(2 * MIB, 65_536).await.unwrap();
    client.flush().await.unwrap();
    let back = client.read_at(MIB + 700, 3 << 20).await.unwrap();
    let hole = usize::try_from(MIB - 700).unwrap();
    assert!(back[..hole] == bytes[..hole]);
    assert!(back[hole..hole + 65_536].iter().all(|byte| *byte == 0));
    assert!(back[hole + 65_536..] == bytes[hole + 65_536..]);

    let extents = client.extents(0, 16 * MIB).await.unwrap();
    assert_eq!(extents.last().map(|it| (it.end(), it.kind)), Some((16 * MIB, ExtentKind::Zero)));
    assert!(extents.iter().any(|it| it.kind == ExtentKind::Data));
    let status = client.block_status(DEPTH, 0, 1).await;
    assert!(matches!(status, Err(BlockError::Unsupported(_))));
    client.close().await;
    let file = std::fs::read(&image).unwrap();
    assert!(file[(1 << 20) + 700..][..hole] == bytes[..hole]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmdk_chain_behind_qemu_nbd_tells_its_depth() {
    if !present(&["qemu-nbd", "qemu-img", "qemu-io"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let overlay = vmdk_chain(folder.path()).await.unwrap();
    let overlay = text(&overlay).unwrap();
    let arguments = ["-f", "vmdk", "-r", "-A", "--shared=2"];
    let (_child, endpoint) = qemu_nbd(folder.path(), &arguments, overlay).await.unwrap();
    let options =
        ClientOptions { extra_contexts: vec![DEPTH.to_owned()], ..ClientOptions::default() };
    let client = NbdClient::connect(&endpoint, "disk", options).await.unwrap();
    assert!(client.read_only() && client.has_context(DEPTH));
    assert!(matches!(client.write_zeroes(0, 512).await, Err(BlockError::ReadOnly)));

    let depth = client.block_status(DEPTH, 0, 4 * MIB).await.unwrap();
    let run = |offset, len, flags| StatusExtent { offset, len, flags };
    let half = MIB / 2;
    assert_eq!(
        depth,
        [run(0, MIB, 2), run(MIB, half, 1), run(MIB + half, half, 2), run(2 * MIB, 2 * MIB, 0),]
    );
    let part = client.block_status(DEPTH, MIB - 100, 200).await.unwrap();
    assert_eq!(part, [run(MIB - 100, 100, 2), run(MIB, 100, 1)]);

    // The sparse VMDK driver has blocks of 512 bytes; odd ranges are the client's work.
    let odd = client.read_at(MIB - 3, 7).await.unwrap();
    assert_eq!(odd[..3], pattern(2 << 20)[(1 << 20) - 3..1 << 20]);
    assert_eq!(odd[3..], [9; 4]);
    let extents = client.extents(0, 4 * MIB).await.unwrap();
    assert_eq!(extents.len(), 2);
    assert_eq!((extents[1].offset, extents[1].kind), (2 * MIB, ExtentKind::Zero));
}

/// Trap D5: one more connection than the server serves must end as an error that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_serves_fewer_connections_is_named() {
    if !present(&["qemu-nbd"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(MIB).unwrap();
    let (_child, endpoint) =
        qemu_nbd(folder.path(), &["-f", "raw", "-r", "--shared=2"], text(&image).unwrap())
            .await
            .unwrap();
    let options = ClientOptions {
        connections: 3,
        connect_timeout: Duration::from_secs(3),
        ..ClientOptions::default()
    };
    let error = NbdClient::connect(&endpoint, "disk", options).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { connection: 3, .. }), "{error}");
    assert!(error.to_string().contains("qemu.sock"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_server_arrive_as_what_they_are() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--filter=error",
        "memory",
        "1M",
        "error-pwrite=ENOSPC",
        "error-pwrite-rate=100%",
        "error-pread=EIO",
        "error-pread-rate=100%",
        "error-zero=EPERM",
        "error-zero-rate=100%",
    ];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let full = client.write_at(0, Bytes::from(vec![1; 4096])).await;
    assert!(matches!(full, Err(BlockError::NoSpace)), "{full:?}");
    let broken = client.read_at(0, 4096).await;
    assert!(matches!(broken, Err(BlockError::Io(_))), "{broken:?}");
    let denied = client.write_zeroes(0, 4096).await;
    assert!(matches!(denied, Err(BlockError::ReadOnly)), "{denied:?}");
    client.flush().await.unwrap();
    client.extents(0, MIB).await.unwrap();
}

/// Traps D5 and U29: a server that does not answer ends as an error, for this request and all later ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_slow_ends_as_timed_out() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=delay", "memory", "1M", "rdelay=30"];
    let (_child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let options =
        ClientOptions { io_timeout: Duration::from_millis(200), ..ClientOptions::default() };
    let client = NbdClient::connect(&endpoint, "", options).await.unwrap();
    let late = client.read_at(0, 512).await;
    assert!(matches!(late, Err(BlockError::TimedOut(_))), "{late:?}");
    let Err(BlockError::Disconnected(reason)) = client.read_at(0, 512).await else {
        panic!("a client that has ended must say so");
    };
    assert!(reason.contains("nbdkit.sock") && reason.contains("no answer"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_disconnects_all_requests() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=delay", "memory", "1M", "rdelay=60"];
    let (mut child, endpoint) = nbdkit(folder.path(), &arguments).await.unwrap();
    let client = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap();
    let (first, second, killed) =
        tokio::join!(client.read_at(0, 512), client.read_at(512, 512), child.kill());
    killed.unwrap();
    assert!(matches!(first, Err(BlockError::Disconnected(_))), "{first:?}");
    assert!(matches!(second, Err(BlockError::Disconnected(_))), "{second:?}");
    let later = client.write_at(0, Bytes::from(vec![1; 512])).await;
    assert!(matches!(later, Err(BlockError::Disconnected(_))), "{later:?}");
    assert!(matches!(client.flush().await, Err(BlockError::Disconnected(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_export_and_a_missing_server_are_told_apart() {
    if !present(&["qemu-nbd"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(MIB).unwrap();
    let (_child, endpoint) =
        qemu_nbd(folder.path(), &["-f", "raw"], text(&image).unwrap()).await.unwrap();
    let unknown = NbdClient::connect(&endpoint, "secret-name", ClientOptions::default()).await;
    let unknown = unknown.unwrap_err();
    assert!(matches!(unknown, ConnectError::UnknownExport { .. }), "{unknown}");
    assert!(!format!("{unknown:?} {unknown}").contains("secret-name"));
    let nowhere = Endpoint::Unix(folder.path().join("nothing.sock"));
    let missing = NbdClient::connect(&nowhere, "disk", ClientOptions::default()).await;
    assert!(matches!(missing, Err(ConnectError::Dial { .. })));
}
