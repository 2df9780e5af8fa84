//! The datastore maker, judged by qemu and e2fsck before anything of ours reads it.

use super::*;
use crate::judge::Image;
use crate::tool;

const MIB: u64 = 1 << 20;

fn small(subformat: Subformat) -> DiskSpec {
    let areas = vec![0..70_144, MIB..MIB + 300_032, 8 * MIB - 65_536..8 * MIB];
    DiskSpec { capacity: 8 * MIB, subformat, content: Content::Noise { seed: 5, areas } }
}

fn digest(disk: &Disk) -> blake3::Hash {
    Image::new(&disk.top(), "vmdk").digest().unwrap()
}

#[test]
fn every_subformat_holds_the_same_bytes_at_the_exact_size() {
    if !tool::present(&tool::DISK_TOOLS).unwrap() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let datastore = Datastore::create(place.path(), "datastore1").unwrap();
    let spec = VmSpec::new("all", Subformat::ALL.map(small).to_vec());
    let vm = datastore.add_vm(&spec).unwrap();
    let mut truth = vec![0; 8 << 20];
    for (seed, at, len) in [(5, 0, 70_144), (4, 1 << 20, 300_032), (7, (8 << 20) - 65_536, 65_536)]
    {
        truth[at..at + len].copy_from_slice(&noise(seed, len));
    }
    for disk in vm.disks() {
        assert_eq!(digest(disk), blake3::hash(&truth), "{:?}", disk.top());
    }
}

#[test]
fn writes_land_in_the_newest_layer_and_leave_the_older_ones_alone() {
    if !tool::present(&tool::DISK_TOOLS).unwrap() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let datastore = Datastore::create(place.path(), "datastore1").unwrap();
    let spec = VmSpec::new("chain", Subformat::ALL.map(small).to_vec());
    let mut vm = datastore.add_vm(&spec).unwrap();
    vm.snapshot().unwrap();
    vm.snapshot().unwrap();
    for disk in vm.disks() {
        let frozen = Image::new(&disk.frozen().unwrap(), "vmdk").digest().unwrap();
        disk.write(2 * MIB, &noise(9, 4096)).unwrap();
        assert_ne!(digest(disk), frozen);
        assert_eq!(Image::new(&disk.frozen().unwrap(), "vmdk").digest().unwrap(), frozen);
    }
    let text = fs::read_to_string(vm.vmx()).unwrap();
    assert!(text.contains("scsi0:3.fileName = \"chain_3-000002.vmdk\""), "{text}");
}

#[test]
fn files_can_be_changed_in_flat_disks_and_in_deltas() {
    if !tool::present(&tool::DISK_TOOLS).unwrap() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let datastore = Datastore::create(place.path(), "datastore1").unwrap();
    let content = Content::Files { name: "files".to_owned(), bytes: 5 * MIB, seed: 1 };
    let disk = |subformat| DiskSpec { capacity: 32 * MIB, subformat, content: content.clone() };
    let disks = vec![disk(Subformat::MonolithicFlat), disk(Subformat::MonolithicSparse)];
    let mut vm = datastore.add_vm(&VmSpec::new("files", disks)).unwrap();
    let edit = |vm: &VirtualMachine, text: &[u8]| {
        for disk in vm.disks() {
            disk.edit(|raw| FileSystem::of(raw).put("/notes.txt", text)).unwrap();
            let raw = place.path().join("raw");
            let (top, to) = (disk.top().display().to_string(), raw.display().to_string());
            tool::run("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", &top, &to]).unwrap();
            let files = FileSystem::of(&raw);
            files.check().unwrap();
            assert_eq!(files.read("/notes.txt").unwrap(), text);
            assert_eq!(files.read("/data/file-0001.bin").unwrap(), noise(2, 1 << 20));
            assert_eq!(files.read("/etc/hostname").unwrap(), b"files\n");
            files.remove("/notes.txt").unwrap();
            files.check().unwrap();
        }
    };
    edit(&vm, b"first");
    vm.snapshot().unwrap();
    edit(&vm, b"second");
}

#[test]
fn a_running_vm_has_a_lock_and_odd_names_are_escaped() {
    if !tool::present(&tool::DISK_TOOLS).unwrap() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let datastore = Datastore::create(place.path(), "datastore1").unwrap();
    let spec =
        VmSpec { name: "a \"b\" | c/d, ü".to_owned(), folder: "x y".to_owned(), disks: vec![] };
    let vm = datastore.add_vm(&spec).unwrap();
    let text = fs::read_to_string(vm.vmx()).unwrap();
    assert!(text.contains("displayName = \"a |22b|22 |7C c/d, ü\""), "{text}");
    vm.power_on().unwrap();
    assert!(vm.home().join("x_y.vmx.lck").is_dir());
    vm.power_off().unwrap();
    assert!(!vm.home().join("x_y.vmx.lck").exists());
    assert!(datastore.add_vm(&spec).is_err());
}

#[test]
fn a_file_system_of_copies_is_sound_and_holds_what_was_there() {
    if !tool::present(&tool::DISK_TOOLS).unwrap() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("below")).unwrap();
    fs::write(from.join("a"), b"first").unwrap();
    fs::write(from.join("below/b"), noise(1, 100_000)).unwrap();
    fs::write(from.join("huge"), vec![1; 3 << 20]).unwrap();
    let image = place.path().join("disk.raw");
    let made = FileSystem::make_of(&image, 16 * MIB, &from, 2 * MIB).unwrap();
    made.check().unwrap();
    assert_eq!(made.read("/files-0/0").unwrap(), b"first");
    assert_eq!(made.read("/files-0/1").unwrap(), noise(1, 100_000), "there is no room for `huge`");
    assert!(!made.read("/data/file-0000.bin").unwrap().is_empty(), "the rest is noise");
}
