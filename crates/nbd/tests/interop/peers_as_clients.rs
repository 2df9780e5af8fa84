//! Our server under the clients that people use: nbdinfo, nbdcopy, qemu-img.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use hub_block::{MemoryDevice, RawFile};
use hub_nbd::ServerOptions;
use serde_json::Value;

use crate::served::{Served, memory, pattern};
use crate::tools::{attempt, present, run, text};

const MIB: usize = 1 << 20;

/// A disk of 24 MiB with data at 1 MiB, a few sectors at 9 MiB, and data at the very end.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 24 * MIB];
    bytes[MIB..6 * MIB].copy_from_slice(&pattern(5 * MIB));
    bytes[9 * MIB + 512..9 * MIB + 2048].copy_from_slice(&pattern(1536));
    let end = bytes.len() - 700;
    bytes[end..].copy_from_slice(&pattern(700));
    bytes
}

fn source(folder: &Path) -> Result<String> {
    let path = folder.join("source.raw");
    std::fs::write(&path, disk())?;
    Ok(text(&path)?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_sees_one_export_and_no_other() {
    if !present(&["nbdinfo"]).unwrap() {
        return;
    }
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let _one = served.offer("one", Arc::new(MemoryDevice::new(disk()))).unwrap();
    let _other = served.offer("capability", memory(512)).unwrap();

    let json = run("nbdinfo", &["--json", &served.uri("one")]).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["protocol"], "newstyle-fixed");
    let export = &json["exports"][0];
    assert_eq!(export["export-size"], 24 * MIB);
    assert_eq!(export["description"], "a disk");
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
    for flag in ["can_multi_conn", "can_flush", "can_fua", "can_zero", "can_df"] {
        assert_eq!(export[flag], true, "{flag}");
    }
    for flag in ["is_read_only", "can_trim", "can_cache", "can_fast_zero", "is_rotational"] {
        assert_eq!(export[flag], false, "{flag}");
    }
    assert_eq!(export["block_size_minimum"], 1);
    assert_eq!(export["block_size_maximum"], 32 * MIB);

    let list = attempt("nbdinfo", &["--list", &served.uri("")]).await.unwrap();
    let told = [list.stdout, list.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        !list.status.success() && told.contains("server replied with error to list request"),
        "{told}"
    );
    assert!(!told.contains("capability"), "{told}");

    let unknown = attempt("nbdinfo", &[&served.uri("guess")]).await.unwrap();
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && told.contains("No such file"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_maps_data_and_zeroes() {
    if !present(&["nbdinfo"]).unwrap() {
        return;
    }
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let _export = served.offer("one", Arc::new(MemoryDevice::new(disk()))).unwrap();
    let map = run("nbdinfo", &["--map", "--json", &served.uri("one")]).await.unwrap();
    let map: Vec<Value> = serde_json::from_str(&map).unwrap();
    let runs: Vec<_> = map
        .iter()
        .map(|it| (it["offset"].as_u64(), it["length"].as_u64(), it["type"].as_u64()))
        .map(|(offset, length, kind)| (offset.unwrap(), length.unwrap(), kind.unwrap()))
        .collect();
    let (mib, end) = (MIB as u64, 24 * MIB as u64 - 4096);
    assert_eq!(
        runs,
        [
            (0, mib, 3),
            (mib, 5 * mib, 0),
            (6 * mib, 3 * mib, 3),
            (9 * mib, 4096, 0),
            (9 * mib + 4096, end - 9 * mib - 4096, 3),
            (end, 4096, 0),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdcopy_copies_in_and_out_over_several_connections() {
    if !present(&["nbdcopy"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path()).unwrap();
    let image = RawFile::create_new(&folder.path().join("image"), 24 * MIB as u64).unwrap();
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", Arc::new(image)).unwrap();
    let target = folder.path().join("target.raw");
    for arguments in [
        vec!["--connections=4", "--requests=8"],
        vec!["--request-size=4194304", "--flush"],
        vec!["--synchronous", "--allocated"],
    ] {
        let _ = std::fs::remove_file(&target);
        let (uri, target) = (served.uri("one"), text(&target).unwrap());
        run("nbdcopy", &[&arguments[..], &[&source, &uri]].concat()).await.unwrap();
        run("nbdcopy", &[&arguments[..], &[&uri, target]].concat()).await.unwrap();
        assert!(std::fs::read(target).unwrap() == disk(), "{arguments:?} changes the disk");
    }
    handle.close().await;
    assert!(std::fs::read(folder.path().join("image")).unwrap() == disk());
    served.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_img_converts_and_compares() {
    if !present(&["qemu-img"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path()).unwrap();
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = memory(24 * MIB);
    let _export = served.offer("one", device.clone()).unwrap();
    let uri = served.uri("one");
    let into = ["convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", &source, &uri];
    run("qemu-img", &into).await.unwrap();
    assert!(device.snapshot() == disk());

    let compare = ["compare", "-f", "raw", "-F", "raw", &source, &uri];
    run("qemu-img", &compare).await.unwrap();
    let info = run("qemu-img", &["info", "--output=json", "-f", "raw", &uri]).await.unwrap();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"], 24 * MIB);

    let image = folder.path().join("copy.qcow2");
    let image = text(&image).unwrap();
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, image]).await.unwrap();
    run("qemu-img", &["compare", "-f", "raw", &source, image]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_export_cannot_be_written() {
    if !present(&["nbdcopy", "nbdinfo"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path()).unwrap();
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Arc::new(MemoryDevice::new_read_only(vec![7; 24 * MIB]));
    let _export = served.offer("one", device.clone()).unwrap();
    run("nbdinfo", &["--is", "read-only", &served.uri("one")]).await.unwrap();
    let refused = attempt("nbdcopy", &[&source, &served.uri("one")]).await.unwrap();
    assert!(!refused.status.success());
    assert!(device.snapshot() == vec![7; 24 * MIB]);
}
