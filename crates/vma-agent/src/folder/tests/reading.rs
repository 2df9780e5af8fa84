//! Real disks as a source opens them, compared byte for byte.

use std::path::Path;

use anyhow::Result;

use crate::fixture::{DISK, Fixture, asking, bytes_of, content, cowd, descriptor, has_qemu, qemu};
use crate::source::{Changed, Snapshot, Source};

const ONE_DISK: &str =
    "uuid.bios = \"564d0102030405060708090a0b0c0d0e\"\nscsi0:0.fileName = \"d.vmdk\"";
const ID: &str = "564d0102-0304-0506-0708-090a0b0c0d0e";

async fn open(fixture: &Fixture) -> Result<Box<dyn Snapshot>> {
    Ok(fixture.source()?.open(&asking(ID, &["disk-2000"])).await?)
}

/// Makes the VM use another file, as a snapshot does.
fn plug(home: &Path, file: &str) -> Result<()> {
    let vmx = std::fs::read_to_string(home.join("vm.vmx"))?;
    let lines = vmx.lines().filter(|it| !it.starts_with("scsi0:0"));
    let lines: Vec<_> =
        lines.map(str::to_owned).chain([format!("scsi0:0.fileName = \"{file}\"")]).collect();
    Ok(std::fs::write(home.join("vm.vmx"), lines.join("\n"))?)
}

fn delta(home: &Path, name: &str, parent: &str, writes: &[&str]) -> Result<()> {
    qemu("qemu-img", home, &["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", parent, name])?;
    for write in writes {
        qemu("qemu-io", home, &["-f", "vmdk", "-c", write, name])?;
    }
    plug(home, name)
}

#[tokio::test]
async fn every_kind_of_vmdk_reads_as_the_raw_disk() {
    if !has_qemu().unwrap() {
        return;
    }
    for kind in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
    ] {
        let fixture = Fixture::new().unwrap();
        let home = fixture.vm("a b,ü", ONE_DISK).unwrap();
        std::fs::write(home.join("d.raw"), content(7)).unwrap();
        let subformat = format!("subformat={kind}");
        let convert = ["convert", "-f", "raw", "-O", "vmdk", "-o", &subformat, "d.raw", "d.vmdk"];
        qemu("qemu-img", &home, &convert).unwrap();
        let snapshot = open(&fixture).await.unwrap();
        let read = bytes_of(&snapshot.reader(0).await.unwrap()).await.unwrap();
        assert!(read == content(7), "{kind} differs");
        let zeroes = snapshot.reader(0).await.unwrap().extents(0, DISK).await.unwrap();
        assert!(zeroes.iter().any(|it| it.kind == hub_block::ExtentKind::Zero), "{kind}");
        snapshot.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_flat_vmfs_disk_of_any_descriptor_version_is_read_as_a_disk() {
    for version in ["version=1", "version=3", "version=4"] {
        let fixture = Fixture::new().unwrap();
        let home = fixture.vm("vm", ONE_DISK).unwrap();
        let text = descriptor("vmfs", &format!("RW {} VMFS \"d-flat.vmdk\"", DISK / 512));
        std::fs::write(home.join("d.vmdk"), text.replace("version=3", version)).unwrap();
        std::fs::write(home.join("d-flat.vmdk"), content(9)).unwrap();
        let snapshot = open(&fixture).await.unwrap();
        let read = bytes_of(&snapshot.reader(0).await.unwrap()).await.unwrap();
        assert!(read == content(9), "{version} differs");
    }
}

#[tokio::test]
async fn a_chain_is_read_through_all_its_layers_and_tells_what_changed() {
    if !has_qemu().unwrap() {
        return;
    }
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    std::fs::write(home.join("d.raw"), content(3)).unwrap();
    qemu("qemu-img", &home, &["convert", "-f", "raw", "-O", "vmdk", "d.raw", "d.vmdk"]).unwrap();
    let first = open(&fixture).await.unwrap();
    let base_mark = first.disks()[0].change_id.clone().unwrap();
    assert_eq!(first.changed_since(0, &base_mark).await, Changed::Areas(vec![]), "trap D46");
    first.close().await.unwrap();

    delta(&home, "d1.vmdk", "d.vmdk", &["write -P 0x21 0 64k"]).unwrap();
    let second = open(&fixture).await.unwrap();
    let middle_mark = second.disks()[0].change_id.clone().unwrap();
    assert_ne!(middle_mark, base_mark);
    assert_eq!(
        second.changed_since(0, &base_mark).await,
        Changed::Areas(std::iter::once(0..65_536).collect())
    );
    second.close().await.unwrap();

    delta(&home, "d2.vmdk", "d1.vmdk", &["write -P 0x22 2M 128k", "write -z 1M 64k"]).unwrap();
    let third = open(&fixture).await.unwrap();
    let mut expected = content(3);
    expected[..65_536].fill(0x21);
    expected[2 << 20..(2 << 20) + 131_072].fill(0x22);
    expected[1 << 20..(1 << 20) + 65_536].fill(0);
    assert!(bytes_of(&third.reader(0).await.unwrap()).await.unwrap() == expected);
    let upper = vec![1 << 20..(1 << 20) + 65_536, 2 << 20..(2 << 20) + 131_072];
    assert_eq!(third.changed_since(0, &middle_mark).await, Changed::Areas(upper.clone()));
    let both = std::iter::once(0..65_536).chain(upper).collect();
    assert_eq!(third.changed_since(0, &base_mark).await, Changed::Areas(both));
    third.check_unchanged(0).await.unwrap();

    let unknown = [base_mark.replace("v1:", "v1:0"), "52 3a/7".to_owned()];
    for mark in unknown {
        assert!(matches!(third.changed_since(0, &mark).await, Changed::Unknown(_)), "{mark}");
    }
}

#[tokio::test]
async fn a_running_vm_is_read_at_its_snapshot_and_later_at_what_it_wrote() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.flat_vm("vm", "vm", &[5]).unwrap();
    let delta = descriptor("vmfsSparse", &format!("RW {} VMFSSPARSE \"d-delta.vmdk\"", DISK / 512));
    let parent = "parentCID=12345678\nparentFileNameHint=\"disk0.vmdk\"";
    std::fs::write(home.join("d.vmdk"), delta.replace("parentCID=ffffffff", parent)).unwrap();
    std::fs::write(home.join("d-delta.vmdk"), cowd(0x77)).unwrap();
    std::fs::write(home.join("vm.vmx"), ONE_DISK).unwrap();
    std::fs::create_dir(home.join("vm.vmx.lck")).unwrap();

    let running = open(&fixture).await.unwrap();
    assert!(
        bytes_of(&running.reader(0).await.unwrap()).await.unwrap() == content(5),
        "the snapshot"
    );
    let mark = running.disks()[0].change_id.clone().unwrap();
    running.close().await.unwrap();

    std::fs::remove_dir(home.join("vm.vmx.lck")).unwrap();
    let off = open(&fixture).await.unwrap();
    let mut expected = content(5);
    expected[6 * 512..7 * 512].fill(0x77);
    assert!(bytes_of(&off.reader(0).await.unwrap()).await.unwrap() == expected, "the delta");
    let wrote = std::iter::once(6 * 512..7 * 512).collect();
    assert_eq!(off.changed_since(0, &mark).await, Changed::Areas(wrote));
}

#[tokio::test]
async fn a_layer_that_was_written_to_is_no_longer_the_marked_one() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    let text = descriptor("vmfs", &format!("RW {} VMFS \"d-flat.vmdk\"", DISK / 512));
    std::fs::write(home.join("d.vmdk"), text).unwrap();
    std::fs::write(home.join("d-flat.vmdk"), content(9)).unwrap();
    let first = open(&fixture).await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    fixture.time_goes_on().unwrap();
    std::fs::write(home.join("d-flat.vmdk"), content(11)).unwrap();
    let spoiled = first.check_unchanged(0).await.unwrap_err();
    assert_eq!(spoiled.code(), "source/changed-while-reading");
    first.close().await.unwrap();
    let second = open(&fixture).await.unwrap();
    assert!(matches!(second.changed_since(0, &mark).await, Changed::Unknown(_)));
}

#[tokio::test]
async fn p7_a_layer_rewritten_under_its_old_time_is_no_longer_the_marked_one() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    let text = descriptor("vmfs", &format!("RW {} VMFS \"d-flat.vmdk\"", DISK / 512));
    std::fs::write(home.join("d.vmdk"), text).unwrap();
    let flat = home.join("d-flat.vmdk");
    std::fs::write(&flat, content(9)).unwrap();
    let first = open(&fixture).await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    fixture.time_goes_on().unwrap();
    // What a copying tool does that preserves times.
    let written = std::fs::metadata(&flat).unwrap().modified().unwrap();
    std::fs::write(&flat, content(11)).unwrap();
    let file = std::fs::File::options().write(true).open(&flat).unwrap();
    file.set_modified(written).unwrap();
    let second = open(&fixture).await.unwrap();
    assert!(matches!(second.changed_since(0, &mark).await, Changed::Unknown(_)));
}

#[tokio::test]
async fn a_vm_that_starts_while_it_is_read_spoils_the_copy() {
    if !has_qemu().unwrap() {
        return;
    }
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    qemu("qemu-img", &home, &["create", "-q", "-f", "vmdk", "d.vmdk", "4M"]).unwrap();
    let snapshot = open(&fixture).await.unwrap();
    snapshot.check_unchanged(0).await.unwrap();
    std::fs::create_dir(home.join("vm.vmx.lck")).unwrap();
    let spoiled = snapshot.check_unchanged(0).await.unwrap_err();
    assert_eq!(spoiled.code(), "source/changed-while-reading");
}

#[tokio::test]
async fn a_thin_disk_and_an_extent_of_zeroes_are_read() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    let half = DISK / 1024;
    let lines = format!("RW {half} VMFS \"d-flat.vmdk\"\nRW {half} ZERO");
    std::fs::write(home.join("d.vmdk"), descriptor("vmfsThin", &lines)).unwrap();
    std::fs::write(home.join("d-flat.vmdk"), content(9)).unwrap();
    let snapshot = open(&fixture).await.unwrap();
    let mut expected = content(9);
    expected[half as usize * 512..].fill(0);
    assert!(bytes_of(&snapshot.reader(0).await.unwrap()).await.unwrap() == expected);
}

#[tokio::test]
async fn what_is_not_read_is_unsupported_and_says_why() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.vm("vm", ONE_DISK).unwrap();
    let line = format!("RW {} VMFSSPARSE \"d-delta.vmdk\"", DISK / 512);
    std::fs::write(home.join("d.vmdk"), descriptor("vmfsSparse", &line)).unwrap();
    let mut extent = cowd(1);
    extent[4] = 2;
    std::fs::write(home.join("d-delta.vmdk"), extent).unwrap();
    let request = asking(ID, &["disk-2000"]);
    let refused = fixture.source().unwrap().check(&request).await.unwrap_err();
    assert_eq!(refused.code(), "source/disk-unsupported");
    assert!(refused.to_string().contains("COWD header version 2"), "{refused}");
}

#[tokio::test]
async fn a_directory_that_is_no_text_is_not_mistaken_for_another() {
    use std::os::unix::ffi::OsStrExt;

    let fixture = Fixture::new().unwrap();
    // What the first directory's name becomes when its odd byte is replaced.
    for (name, fill) in [(&b"vm\xff"[..], 9), ("vm\u{fffd}".as_bytes(), 5)] {
        let plain = fixture.vm("plain", if fill == 9 { ONE_DISK } else { "" }).unwrap();
        let text = descriptor("vmfs", &format!("RW {} VMFS \"d-flat.vmdk\"", DISK / 512));
        std::fs::write(plain.join("d.vmdk"), text).unwrap();
        std::fs::write(plain.join("d-flat.vmdk"), content(fill)).unwrap();
        let odd = fixture.root().join(std::ffi::OsStr::from_bytes(name));
        std::fs::rename(&plain, odd).unwrap();
    }
    let snapshot = open(&fixture).await.unwrap();
    assert!(bytes_of(&snapshot.reader(0).await.unwrap()).await.unwrap() == content(9));
}
