//! Disks read through the real plugin of nbdkit, above a library that stands in for VMware's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use hub_block::{BlockDevice, BlockError, ExtentKind};
use hub_vsphere_peer::{DiskLibrary, DiskShape, VmShape};
use rustix::process::{Pid, Signal, kill_process};

use super::lab::{CAPACITY, GRAIN, Lab, disk, named, raw};
use crate::doubles::until;
use crate::source::{Changed, ReadBy, Source as _};
use crate::vsphere::VddkOptions;

/// SHA-1 of the certificate, as far as the library knows.
pub(super) const THUMBPRINT: &str = "01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67";

/// A lab whose VM is read through VDDK, and the orders that make all of it well.
pub(super) async fn start() -> Result<Option<(Lab, DiskLibrary, Vec<String>)>> {
    let Some(mut lab) = Lab::start().await? else { return Ok(None) };
    let Some(library) = DiskLibrary::make()? else { return Ok(None) };
    let orders = orders(&lab).await?;
    library.script(&orders)?;
    lab.read_through(options(&library))?;
    Ok(Some((lab, library, orders)))
}

pub(super) fn options(library: &DiskLibrary) -> VddkOptions {
    VddkOptions {
        plugin: Some(library.plugin().to_owned()),
        transports: Some("nbdssl:nbd".to_owned()),
        compression: Some("fastlz".to_owned()),
        retries: 0,
        ..VddkOptions::new(library.directory().to_owned(), THUMBPRINT.to_owned())
    }
}

/// Where the bytes of each disk are, and what a login has to bring.
async fn orders(lab: &Lab) -> Result<Vec<String>> {
    let mut orders =
        vec![format!("password {}", lab.peer.password()), format!("thumbprint {THUMBPRINT}")];
    orders.extend(disks(lab, &lab.id, &lab.files).await?);
    Ok(orders)
}

/// Where the bytes of a VM's disks are.
pub(super) async fn disks(lab: &Lab, id: &str, files: &[PathBuf]) -> Result<Vec<String>> {
    let paths = lab.paths(id).await?;
    let order = |(path, file): (&String, &PathBuf)| format!("disk {path}\t{}", file.display());
    Ok(paths.iter().zip(files).map(order).collect())
}

/// Processes that read through a library directory: their ids and their arguments.
pub(super) fn readers(library: &Path) -> Vec<(i32, String)> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let told = format!("libdir={}", library.display());
    let reader = |it: std::fs::DirEntry| {
        let id = it.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(it.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains(&told).then_some((id, arguments))
    };
    all.filter_map(reader).collect()
}

/// An error with its cause.
pub(super) fn told(error: &BlockError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

async fn whole(device: &dyn BlockDevice) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for at in (0..CAPACITY).step_by(1 << 19) {
        bytes.extend_from_slice(&device.read_at(at, 1 << 19).await?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_disk_is_read_byte_for_byte_with_its_holes_and_no_secret_is_shown() {
    let Some((lab, library, _)) = start().await.unwrap() else { return };
    let bytes: Vec<u8> = (0..3 * GRAIN).map(|it| u8::try_from(it % 251).unwrap()).collect();
    lab.write(1, 5 * GRAIN, &bytes).unwrap();
    let opened = lab.open("job").await.unwrap();
    let read_by = ReadBy { name: "vddk", reason: "VDDK is set up" };
    assert_eq!(opened.disks()[1].read_by, Some(read_by));
    assert!(readers(library.directory()).is_empty(), "nothing is read before its turn");
    let device = opened.reader(1).await.unwrap();
    let (id, arguments) = readers(library.directory()).remove(0);
    let socket = arguments.split(' ').find(|it| it.ends_with("/socket")).unwrap();
    let home = Path::new(socket).parent().unwrap().to_owned();
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for shown in [&arguments, &environment] {
        assert!(!shown.contains(lab.peer.password()), "{shown}");
    }
    let inside: Vec<_> =
        std::fs::read_dir(&home).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(inside, ["socket"], "a file would outlive a VMA that is killed");

    assert_eq!((device.size(), device.read_only()), (CAPACITY, true));
    let mut expected = vec![0; usize::try_from(CAPACITY).unwrap()];
    let at = usize::try_from(5 * GRAIN).unwrap();
    expected[at..at + bytes.len()].copy_from_slice(&bytes);
    assert!(whole(&*device).await.unwrap() == expected, "other bytes were read");
    let extents = device.extents(0, CAPACITY).await.unwrap();
    let data: Vec<_> = extents.iter().filter(|it| it.kind == ExtentKind::Data).collect();
    assert_eq!((data.len(), data[0].offset, data[0].len), (1, 5 * GRAIN, 3 * GRAIN));
    // A read in the middle of a sector, which VDDK does not know.
    assert_eq!(device.read_at(5 * GRAIN + 3, 5).await.unwrap(), bytes[3..8]);

    drop(device);
    until("the reader has ended", || readers(library.directory()).is_empty()).await.unwrap();
    until("its directory is gone", || !home.exists()).await.unwrap();
    let calls = library.calls().unwrap();
    assert_eq!(calls.last().map(String::as_str), Some("exit"), "it has logged out: {calls:?}");
    let (host, port) = lab.peer.address().split_once(':').unwrap();
    let snapshot = &lab.peer.snapshots().unwrap()[0].id;
    let vm = &lab.peer.vms().unwrap()[&lab.vm];
    let user = lab.peer.user();
    let connect = format!(
        "connect server={host} port={port} user={user} vm=moref={vm} thumbprint={THUMBPRINT} snapshot={snapshot} transports=nbdssl:nbd read_only=1"
    );
    assert_eq!(calls[1], connect);
    // 4 is read-only, 32 is fastlz.
    assert!(calls[2].starts_with("open [LocalDS_0] ") && calls[2].ends_with(" flags=36"));
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn nbdkit_is_started_as_the_guides_say_and_finds_the_password_in_memory() {
    let Some((mut lab, library, _)) = start().await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (program, seen) = (folder.path().join("nbdkit"), folder.path().join("seen"));
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {seen}\nhome=$(dirname \"$5\")\n(stat -c %a \"$home\"; ls -A \"$home\"; readlink /proc/self/fd/0) >> {seen}\nexec nbdkit \"$@\"\n",
        seen = seen.display()
    );
    // Written by another process: what a test beside this one starts meanwhile would have the file open for a moment,
    // and the system starts no program that somebody can write to.
    let draft = folder.path().join("draft");
    std::fs::write(&draft, script).unwrap();
    let mut install = Command::new("install");
    assert!(install.arg("-m700").args([&draft, &program]).status().unwrap().success());
    lab.read_through(VddkOptions { nbdkit: program, retries: 4, ..options(&library) }).unwrap();
    let opened = lab.open("job").await.unwrap();
    let device = opened.reader(0).await.unwrap();
    let seen = std::fs::read_to_string(&seen).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    let (host, port) = lab.peer.address().split_once(':').unwrap();
    let socket = seen[4];
    let file = library.calls().unwrap()[2].clone();
    let file = file.strip_prefix("open ").unwrap().strip_suffix(" flags=36").unwrap();
    let expected = [
        "-r",
        "-f",
        "--exit-with-parent",
        "-U",
        socket,
        "--filter=blocksize",
        "--filter=cacheextents",
        "--filter=retry",
        library.plugin().to_str().unwrap(),
        &format!("libdir={}", library.directory().display()),
        &format!("server={host}"),
        &format!("port={port}"),
        &format!("user={}", lab.peer.user()),
        "password=+/proc/self/fd/0",
        &format!("thumbprint={THUMBPRINT}"),
        &format!("vm=moref={}", lab.peer.vms().unwrap()[&lab.vm]),
        &format!("snapshot={}", lab.peer.snapshots().unwrap()[0].id),
        "transports=nbdssl:nbd",
        "compression=fastlz",
        &format!("file={file}"),
        "minblock=512",
        "maxdata=2M",
        "retries=4",
        "700",
        "/memfd:sendense-vddk (deleted)",
    ];
    assert_eq!(seen, expected);
    drop(device);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_vm_on_snapshots_of_others_is_read_through_vddk_and_its_changes_are_not_believed() {
    let Some((mut lab, library, _)) = start().await.unwrap() else { return };
    lab.write(0, GRAIN, b"beneath a snapshot").unwrap();
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    lab.peer.snapshot(&lab.vm, "theirs").unwrap();
    let over_https = lab.over_https().unwrap().check(&lab.request("two")).await.unwrap_err();
    assert_eq!(over_https.code(), "source/vm-has-snapshots");
    lab.source.check(&lab.request("two")).await.unwrap();
    let opened = lab.open("two").await.unwrap();
    assert!(opened.disks().iter().all(|it| it.change_id.is_none()));
    let Changed::Unknown(why) = opened.changed_since(0, &mark).await else { panic!("believed") };
    assert!(why.contains("snapshot of somebody else"), "{why}");
    let device = opened.reader(0).await.unwrap();
    assert_eq!(device.read_at(GRAIN, 18).await.unwrap(), b"beneath a snapshot"[..]);
    drop(device);
    opened.close().await.unwrap();
    let left = lab.peer.snapshots().unwrap();
    assert_eq!((left.len(), left[0].name.as_str()), (1, "theirs"));
    drop(library);
    lab.restart().unwrap();
}

#[tokio::test]
async fn vddk_reads_more_kinds_of_disks_and_not_those_that_snapshots_leave_out() {
    let Some((lab, library, _)) = start().await.unwrap() else { return };
    let shaped = |shape: DiskShape| {
        let disks = Some(vec![shape, disk(2001, 1)]);
        lab.peer.shape(&VmShape { disks, tracking: Some(true), ..named(&lab.vm) }).unwrap();
    };
    let base = disk(2000, 0);
    for shape in [
        DiskShape { mode: "independent_persistent".into(), ..base.clone() },
        raw("physicalMode", "persistent"),
        DiskShape { sharing: "sharingMultiWriter".into(), ..base.clone() },
        DiskShape { encrypted: true, ..base.clone() },
    ] {
        shaped(shape);
        let error = lab.source.check(&lab.request("job")).await.unwrap_err();
        assert_eq!(error.code(), "source/disk-unsupported");
    }
    shaped(raw("virtualMode", "persistent"));
    lab.source.check(&lab.request("job")).await.unwrap();
    shaped(DiskShape { parent: "disk-9.vmdk".into(), ..base });
    lab.source.check(&lab.request("job")).await.unwrap();
    // A linked clone, for example: a full says why there is no mark, and so does every run after it.
    let opened = lab.open("delta").await.unwrap();
    assert!(opened.disks()[0].change_id.is_none());
    let told = opened.disks()[0].no_mark.clone().unwrap();
    assert!(told.contains("stands on a parent") && !told.contains("somebody else"), "{told}");
    assert_eq!(opened.disks()[1].no_mark, None);
    let mark = opened.disks()[1].change_id.clone().unwrap();
    let Changed::Unknown(why) = opened.changed_since(0, &mark).await else { panic!("believed") };
    assert_eq!(why, told);
    opened.close().await.unwrap();
    std::fs::remove_file(library.directory().join("lib64/libvixDiskLib.so.6")).unwrap();
    let error = lab.source.check(&lab.request("job")).await.unwrap_err();
    assert_eq!(error.code(), "source/vddk-unusable");
    assert!(error.to_string().contains("unpack it"), "{error}");
    assert!(lab.source.open(&lab.request("job")).await.is_err());
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), Some(&1), "the first one");
}

#[tokio::test]
async fn what_vddk_refuses_is_told_with_what_to_do() {
    let Some((mut lab, library, orders)) = start().await.unwrap() else { return };
    let with = |order: &str| {
        let mut all = vec![order.to_owned()];
        all.extend(orders.iter().cloned());
        library.script(&all).unwrap();
    };
    let opened = lab.open("job").await.unwrap();
    for (order, code, expected) in [
        ("password other", "source/vddk-failed", "login"),
        ("thumbprint 00", "source/vddk-failed", "SHA-1"),
        ("fail open NFC_NETWORK_ERROR", "source/vddk-failed", "port 902"),
        ("fail init no licence", "source/vddk-unusable", "no licence"),
    ] {
        with(order);
        let error = opened.reader(0).await.err().unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(lab.peer.password()), "{error}");
        lab.source.test(&lab.credentials()).await.unwrap();
    }
    library.script(&orders).unwrap();
    let device = opened.reader(0).await.unwrap();
    with("fail read NFC: Failed to allocate the requested 2097176 bytes");
    let error = told(&device.read_at(0, 512).await.unwrap_err());
    assert!(error.contains("readers_per_host"), "{error}");
    drop(device);
    let other = tempfile::NamedTempFile::new().unwrap();
    other.as_file().set_len(CAPACITY * 2).unwrap();
    let path = orders[2].split('\t').next().unwrap();
    with(&format!("{path}\t{}", other.path().display()));
    let error = opened.reader(0).await.err().unwrap();
    assert_eq!(error.code(), "source/capacity-mismatch", "trap D7");
    opened.close().await.unwrap();
    until("no reader is left", || readers(library.directory()).is_empty()).await.unwrap();

    lab.read_through(VddkOptions { nbdkit: "/nowhere/nbdkit".into(), ..options(&library) })
        .unwrap();
    let opened = lab.open("job").await.unwrap();
    let error = opened.reader(0).await.err().unwrap();
    assert_eq!(error.code(), "source/vddk-unusable");
    assert!(error.to_string().contains("install nbdkit"), "{error}");
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_is_killed_or_hangs_ends_its_read_soon() {
    let Some((mut lab, library, orders)) = start().await.unwrap() else { return };
    let mut hanging = vec!["hang read".to_owned()];
    hanging.extend(orders);
    library.script(&hanging).unwrap();
    let read = Duration::from_millis(300);
    lab.read_through(VddkOptions { read, ..options(&library) }).unwrap();
    let opened = lab.open("job").await.unwrap();
    let device = opened.reader(0).await.unwrap();
    let error = told(&device.read_at(0, 512).await.unwrap_err());
    assert!(error.contains("VDDK does not answer"), "{error}");
    drop(device);
    opened.close().await.unwrap();

    lab.read_through(options(&library)).unwrap();
    let opened = lab.open("job").await.unwrap();
    let device = opened.reader(0).await.unwrap();
    let before = library.calls().unwrap().len();
    let killed = async {
        let is_reading =
            || library.calls().unwrap().iter().skip(before).any(|it| it.starts_with("read "));
        until("a read is under way", is_reading).await.unwrap();
        for (id, _) in readers(library.directory()) {
            let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
        }
    };
    let (read, ()) = tokio::join!(device.read_at(0, 512), killed);
    let error = told(&read.unwrap_err());
    assert!(error.contains("has ended (signal: 9"), "{error}");
    drop(device);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
    until("no reader is left", || readers(library.directory()).is_empty()).await.unwrap();
}
