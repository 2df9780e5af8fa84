//! Our server under clients that do more than copy: fio with verification, and qemu-io request by request.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hub_block::{MemoryDevice, RawFile};
use hub_nbd::ServerOptions;
use serde_json::Value;

use crate::served::{Served, memory};
use crate::tools::{attempt, present, run, text};

const MIB: usize = 1 << 20;
/// Jobs of fio, each with a connection and a part of the disk of its own.
const JOBS: usize = 4;

/// Runs fio's writing job, or only its verification, and returns the bytes written and read by each job.
async fn fio(folder: &Path, target: &[&str], more: &[&str]) -> Result<Vec<(u64, u64)>> {
    let report = folder.join("fio.json");
    let output = format!("--output={}", text(&report)?);
    // The seed makes the blocks of the verification those of the writing.
    let job = [
        "--name=work",
        "--thread",
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--iodepth=16",
        "--size=4m",
        "--offset_increment=4m",
        "--numjobs=4",
        "--fsync=16",
        "--randseed=7",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--output-format=json",
        &output,
    ];
    run("fio", &[&job[..], target, more].concat()).await?;
    let report = std::fs::read_to_string(&report)?;
    // Notes of the engine stand before the report.
    let json = report.find('{').and_then(|at| report.get(at..)).context("no report")?;
    let report: Value = serde_json::from_str(json)?;
    let jobs = report["jobs"].as_array().context("no jobs")?;
    ensure!(jobs.iter().all(|it| it["error"] == 0), "{report:#}");
    let bytes = |job: &Value, way: &str| job[way]["io_bytes"].as_u64().context("no bytes");
    jobs.iter().map(|it| Ok((bytes(it, "write")?, bytes(it, "read")?))).collect()
}

/// Blocks that know their place and carry a checksum: written and read over NBD, then found in the file behind.
#[tokio::test(flavor = "multi_thread")]
async fn fio_writes_and_verifies_over_several_connections() {
    if !present(&["fio"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let image = RawFile::create_new(&path, (JOBS * 4 * MIB) as u64).unwrap();
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let _handle = served.offer("one", Arc::new(image)).unwrap();
    let uri = format!("--uri={}", served.uri("one"));
    let over_nbd = ["--ioengine=nbd", &uri];
    let file = format!("--filename={}", text(&path).unwrap());
    let in_the_file = ["--ioengine=psync", &file];
    let each = 4 * MIB as u64;

    let worked = fio(folder.path(), &over_nbd, &["--do_verify=1"]).await.unwrap();
    assert_eq!(worked, [(each, each); JOBS]);
    let found = fio(folder.path(), &in_the_file, &["--verify_only"]).await.unwrap();
    // What the verification calls written is what it knows to be written.
    assert_eq!(found, [(each, each); JOBS]);

    // One bit is enough for the verification to fail, so its success says something.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9 * MIB + 77] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let broken = fio(folder.path(), &over_nbd, &["--verify_only"]).await;
    assert!(broken.is_err(), "a flipped bit was not seen");
}

/// What qemu asks for of odd offsets, forced writes, zeroes and flushes, one request at a time and several at once.
#[tokio::test(flavor = "multi_thread")]
async fn qemu_io_works_request_by_request() {
    if !present(&["qemu-io"]).unwrap() {
        return;
    }
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = memory(8 * MIB);
    let _export = served.offer("one", device.clone()).unwrap();
    let commands = [
        "write -P 0x11 1M 300k",
        "write -P 0x22 700 3001",
        "write -f -P 0x33 5M 64k",
        "write -P 0x66 3000k 200k",
        "write -z 1100k 50k",
        "write -z -u -f 1200001 1000",
        "aio_write -P 0x44 6M 100k",
        "aio_write -P 0x55 7M 100k",
        "aio_write -z 3M 10k",
        "aio_flush",
        "flush",
        "read -P 0x22 700 3001",
        "read -P 0x33 5M 64k",
        "read -P 0 1100k 50k",
        "read -P 0x55 7M 100k",
    ];
    let commands: Vec<&str> = commands.iter().flat_map(|it| ["-c", it]).collect();
    let uri = served.uri("one");
    let said = run("qemu-io", &[&["-f", "raw"], &commands[..], &[&uri]].concat()).await.unwrap();
    assert!(!said.contains("failed"), "{said}");

    let mut expected = vec![0; 8 * MIB];
    expected[MIB..MIB + (300 << 10)].fill(0x11);
    expected[700..3701].fill(0x22);
    expected[5 * MIB..5 * MIB + (64 << 10)].fill(0x33);
    expected[1100 << 10..1150 << 10].fill(0);
    expected[1_200_001..1_201_001].fill(0);
    expected[3000 << 10..3200 << 10].fill(0x66);
    expected[3 * MIB..3 * MIB + (10 << 10)].fill(0);
    expected[6 * MIB..6 * MIB + (100 << 10)].fill(0x44);
    expected[7 * MIB..7 * MIB + (100 << 10)].fill(0x55);
    assert!(device.snapshot() == expected);

    for beyond in ["write 8M 512", "read 8191k 4k"] {
        let refused = attempt("qemu-io", &["-f", "raw", "-c", beyond, &uri]).await.unwrap();
        assert!(!refused.status.success(), "{beyond}");
    }
    assert!(device.snapshot() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_io_cannot_write_to_a_read_only_export() {
    if !present(&["qemu-io"]).unwrap() {
        return;
    }
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Arc::new(MemoryDevice::new_read_only(vec![7; MIB]));
    let _export = served.offer("one", device.clone()).unwrap();
    let uri = served.uri("one");
    let read = ["-r", "-f", "raw", "-c", "read -P 7 0 1M", &uri];
    let said = run("qemu-io", &read).await.unwrap();
    assert!(!said.contains("failed"), "{said}");
    for command in ["write -P 1 0 4k", "write -z 0 4k", "discard 0 64k"] {
        let refused = attempt("qemu-io", &["-f", "raw", "-c", command, &uri]).await.unwrap();
        assert!(!refused.status.success(), "{command}");
    }
    assert!(device.snapshot() == vec![7; MIB]);
}
