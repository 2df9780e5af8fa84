//! Descriptors of every kind, honest and hostile.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use proptest::prelude::*;

use crate::vmdk::{
    Chain, CreateType, Datastore, Descriptor, Directory, HeaderError, Layer, Storage, VmdkDisk,
    VmdkError,
};

/// A descriptor with the given lines between its settings and its end.
fn text(create_type: &str, cid: u32, parent: Option<(u32, &str)>, lines: &str) -> String {
    let parent_cid = parent.map_or(u32::MAX, |(cid, _)| cid);
    let hint = parent.map_or(String::new(), |(_, file)| format!("parentFileNameHint=\"{file}\"\n"));
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent_cid:08x}\ncreateType=\"{create_type}\"\n{hint}\n# Extent description\n{lines}\n\n#DDB\nddb.thinProvisioned = \"1\"\n"
    )
}

fn flat(folder: &Path, name: &str, cid: u32, parent: Option<(u32, &str)>) -> Result<()> {
    let extent = format!("{name}-flat.vmdk");
    std::fs::write(folder.join(&extent), vec![1; 8 * 512])?;
    let line = format!("RW 8 VMFS \"{extent}\"");
    std::fs::write(folder.join(format!("{name}.vmdk")), text("vmfs", cid, parent, &line))?;
    Ok(())
}

fn layer(folder: &Path, name: &str) -> Result<Layer, VmdkError> {
    let directory = Directory::open(folder).map_err(|it| VmdkError::io(name, it))?;
    Layer::read(&directory, name)
}

fn chain(folder: &Path, name: &str) -> Result<Chain, VmdkError> {
    let directory = Directory::open(folder).map_err(|it| VmdkError::io(name, it))?;
    Chain::read(&directory, name)
}

fn refusal(lines: &str) -> VmdkError {
    Descriptor::parse(&text("monolithicFlat", 1, None, lines)).unwrap_err()
}

#[test]
fn a_split_disk_is_read() {
    let lines = "RW 8 FLAT \"a b, c-f001.vmdk\" 0\nRW 16 FLAT \"a-f002.vmdk\" 128";
    let parsed = Descriptor::parse(&text("twoGbMaxExtentFlat", 0xabc, None, lines)).unwrap();
    assert_eq!(parsed.capacity(), 24 * 512);
    assert_eq!((parsed.cid, parsed.parent_cid, parsed.thin), (0xabc, None, Some(true)));
    assert_eq!(parsed.create_type, CreateType::TwoGbMaxExtentFlat);
    assert_eq!(parsed.extents[0].file(), Some("a b, c-f001.vmdk"));
    let second = Storage::Flat { file: "a-f002.vmdk".to_owned(), offset: 128 };
    assert_eq!(parsed.extents[1].storage, second);
}

#[test]
fn raw_device_maps_and_unknown_kinds_are_unsupported() {
    for kind in ["vmfsRawDeviceMap", "vmfsPassthroughRawDeviceMap", "fullDevice", "custom"] {
        let refused = Descriptor::parse(&text(kind, 1, None, "RW 8 VMFS \"a\""));
        assert!(refused.unwrap_err().is_unsupported(), "{kind}");
    }
    for line in
        ["RW 8 VMFSRDM \"a\"", "RW 8 ZERO \"a\"", "RDONLY 8 FLAT \"a\"", "NOACCESS 8 FLAT \"a\""]
    {
        assert!(refusal(line).is_unsupported(), "{line}");
    }
    let version = text("vmfs", 1, None, "RW 8 VMFS \"a\"").replace("version=1", "version=5");
    assert!(Descriptor::parse(&version).unwrap_err().is_unsupported());
}

#[test]
fn names_that_leave_the_directory_are_refused_trap_c13() {
    for name in ["/etc/shadow", "../../secret", "..", ".", "", "a/b", "a\\b", "/vmfs/devices/x"] {
        let line = format!("RW 8 FLAT \"{name}\" 0");
        assert!(matches!(refusal(&line), VmdkError::NotPlain(_)), "extent {name}");
        let hint = text("vmfsSparse", 1, Some((2, name)), "RW 8 VMFSSPARSE \"a\"");
        let refused = Descriptor::parse(&hint).unwrap_err();
        assert!(matches!(refused, VmdkError::NotPlain(_)), "parent {name}");
    }
}

#[test]
fn what_another_reader_could_take_for_an_extent_or_a_parent_is_refused() {
    let split = refusal("RW 8 FLAT\n\"/etc/shadow\" 0");
    assert!(matches!(split, VmdkError::Malformed { .. }));
    let comment = refusal("# parentFileNameHint=\"/etc/shadow\"\nRW 8 FLAT \"a\" 0");
    assert!(matches!(comment, VmdkError::Malformed { .. }));
    let twice = refusal("createType=\"vmfs\"\nRW 8 FLAT \"a\" 0");
    assert!(matches!(twice, VmdkError::Malformed { .. }));
    let lonely = text("vmfs", 1, None, "parentFileNameHint=\"a.vmdk\"\nRW 8 FLAT \"a\" 0");
    assert!(matches!(Descriptor::parse(&lonely).unwrap_err(), VmdkError::Missing(_)));
}

#[test]
fn a_disk_of_no_or_absurd_size_is_refused_trap_d2() {
    assert!(matches!(refusal(""), VmdkError::Missing(_)));
    assert!(matches!(refusal("RW 0 FLAT \"a\" 0"), VmdkError::Malformed { .. }));
    let huge = format!("RW {0} FLAT \"a\" 0\nRW {0} FLAT \"b\" 0", u64::MAX);
    assert!(refusal(&huge).is_unsupported());
    assert!(refusal(&format!("RW {} FLAT \"a\" 0", 1_u64 << 42)).is_unsupported());
}

#[test]
fn only_regular_files_beside_the_descriptor_are_followed_trap_c13() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    flat(at, "good", 1, None).unwrap();
    assert_eq!(layer(at, "good.vmdk").unwrap().allocated() % 512, 0);

    symlink("good-flat.vmdk", at.join("link-flat.vmdk")).unwrap();
    std::fs::write(at.join("link.vmdk"), text("vmfs", 1, None, "RW 8 VMFS \"link-flat.vmdk\""))
        .unwrap();
    assert!(matches!(layer(at, "link.vmdk"), Err(VmdkError::NotRegular(_))));

    symlink("good.vmdk", at.join("alias.vmdk")).unwrap();
    assert!(matches!(layer(at, "alias.vmdk"), Err(VmdkError::NotRegular(_))));

    std::fs::create_dir(at.join("dir.vmdk")).unwrap();
    assert!(matches!(layer(at, "dir.vmdk"), Err(VmdkError::NotRegular(_))));
    assert!(matches!(layer(at, "none.vmdk"), Err(VmdkError::NotFound(_))));
    std::fs::write(at.join("lost.vmdk"), text("vmfs", 1, None, "RW 8 VMFS \"x\"")).unwrap();
    assert!(matches!(layer(at, "lost.vmdk"), Err(VmdkError::NotFound(_))));
}

#[test]
fn a_flat_extent_that_ends_early_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    flat(folder.path(), "cut", 1, None).unwrap();
    std::fs::write(folder.path().join("cut-flat.vmdk"), vec![1; 8 * 512 - 1]).unwrap();
    let refused = layer(folder.path(), "cut.vmdk");
    assert!(matches!(refused, Err(VmdkError::ShortExtent { needed: 4096, .. })));
}

#[test]
fn files_that_are_no_descriptors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(folder.path().join("x.vmdk"), bytes).unwrap();
        layer(folder.path(), "x.vmdk").unwrap_err()
    };
    assert!(matches!(refused(b""), VmdkError::NotADescriptor(_)));
    assert!(matches!(refused(b"COWD"), VmdkError::NotADescriptor(_)));
    let cut = refused(b"KDMV");
    assert!(matches!(cut, VmdkError::Header { source: HeaderError::Malformed { .. }, .. }));
    assert!(matches!(refused(&[0xff; 4096]), VmdkError::NotADescriptor(_)));
    assert!(matches!(refused(&vec![b'#'; (1 << 20) + 1]), VmdkError::TooLarge(_)));
    let mut header = b"KDMV\x01\0\0\0\x02\0\0\0".to_vec();
    for field in [8_u64, 128, 1, u64::MAX] {
        header.extend(field.to_le_bytes());
    }
    header.extend(512_u32.to_le_bytes());
    header.resize(512, 0);
    assert!(matches!(refused(&header), VmdkError::TooLarge(_)));
    header[28..36].copy_from_slice(&9_u64.to_le_bytes());
    assert!(refused(&header).is_unsupported());
}

#[test]
fn an_extent_that_hides_a_descriptor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut extent = b"KDMV\x01\0\0\0\x02\0\0\0".to_vec();
    for field in [0_u64, 128, 1, 20] {
        extent.extend(field.to_le_bytes());
    }
    extent.resize(4096, 0);
    std::fs::write(folder.path().join("x-s001.vmdk"), extent).unwrap();
    let line = "RW 8 SPARSE \"x-s001.vmdk\"";
    let descriptor = text("twoGbMaxExtentSparse", 1, None, line);
    std::fs::write(folder.path().join("x.vmdk"), descriptor).unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let chain = Chain::read(&directory, "x.vmdk").unwrap();
    let refused = VmdkDisk::open(&directory, &chain).unwrap_err();
    assert!(matches!(refused, VmdkError::Header { .. }), "{refused}");
}

#[test]
fn a_chain_stands_on_the_parents_it_was_made_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    flat(at, "base", 0xA, None).unwrap();
    flat(at, "one", 0xB, Some((0xA, "base.vmdk"))).unwrap();
    flat(at, "two", 0xC, Some((0xB, "one.vmdk"))).unwrap();
    let whole = chain(at, "two.vmdk").unwrap();
    let names: Vec<_> = whole.layers().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["two.vmdk", "one.vmdk", "base.vmdk"]);
    assert_eq!(whole.frozen().unwrap().top().unwrap().name, "one.vmdk");
    assert_eq!(chain(at, "base.vmdk").unwrap().frozen(), None);

    flat(at, "base", 0xD, None).unwrap();
    let stale = chain(at, "two.vmdk");
    assert!(matches!(stale, Err(VmdkError::StaleParent { expected: 0xA, found: 0xD, .. })));
    std::fs::remove_file(at.join("base.vmdk")).unwrap();
    assert!(matches!(chain(at, "two.vmdk"), Err(VmdkError::NotFound(_))));
}

#[test]
fn a_chain_ends_after_32_layers_and_never_turns_round() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    flat(at, "0", 1, None).unwrap();
    for layer in 1..33 {
        flat(at, &layer.to_string(), 1, Some((1, &format!("{}.vmdk", layer - 1)))).unwrap();
    }
    assert_eq!(chain(at, "31.vmdk").unwrap().layers().len(), 32);
    assert!(matches!(chain(at, "32.vmdk"), Err(VmdkError::TooDeep)));
    flat(at, "self", 1, Some((1, "self.vmdk"))).unwrap();
    assert!(matches!(chain(at, "self.vmdk"), Err(VmdkError::TooDeep)));
}

#[test]
fn disks_are_located_only_inside_datastores() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("ds1/vm");
    std::fs::create_dir_all(home.join("sub")).unwrap();
    symlink("/etc", home.join("link")).unwrap();
    let store = Datastore::open(&folder.path().join("ds1")).unwrap();
    let all = [store.clone()];
    let home = store.root().join("vm");
    let located = |named: &str| {
        Datastore::locate(&all, &home, named).map(|it| it.directory.path().join(it.name))
    };
    assert_eq!(located("a.vmdk").unwrap(), home.join("a.vmdk"));
    assert_eq!(located("sub/a.vmdk").unwrap(), home.join("sub/a.vmdk"));
    assert_eq!(located("/vmfs/volumes/ds1/vm/a.vmdk").unwrap(), home.join("a.vmdk"));
    assert_eq!(located(home.join("a.vmdk").to_str().unwrap()).unwrap(), home.join("a.vmdk"));
    for outside in
        ["../x/a.vmdk", "/etc/passwd", "/vmfs/volumes/ds2/a.vmdk", "/vmfs/volumes/ds1/../a"]
    {
        assert!(matches!(located(outside), Err(VmdkError::Outside(_))), "{outside}");
    }
    assert!(matches!(located("link/passwd"), Err(VmdkError::NotRegular(_))));
    assert_eq!(store.label(&home.join("a.vmdk")), "[ds1] vm/a.vmdk");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,400}") {
        let _ = Descriptor::parse(&text);
    }

    #[test]
    fn what_is_accepted_is_bounded_and_plain(lines in proptest::collection::vec(
        "(RW|rw|RDONLY)? ?[0-9]{0,20} ?(FLAT|SPARSE|VMFS|ZERO)? ?\"?[a-z./]{0,8}\"? ?[0-9]{0,3}", 0..6)) {
        if let Ok(parsed) = Descriptor::parse(&text("monolithicFlat", 1, None, &lines.join("\n"))) {
            prop_assert!(parsed.capacity() > 0 && parsed.capacity() <= 1 << 50);
            let plain = |name: &str| !name.contains('/') && name != "..";
            prop_assert!(parsed.extents.iter().filter_map(|it| it.file()).all(plain));
        }
    }

    #[test]
    fn no_file_makes_it_panic(magic in prop::sample::select(vec![&b"KDMV"[..], b"COWD", b"# Disk DescriptorFile\n"]),
        rest in proptest::collection::vec(any::<u8>(), 0..3_000)) {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = magic.iter().copied().chain(rest).collect();
        std::fs::write(folder.path().join("x.vmdk"), bytes).unwrap();
        let _ = chain(folder.path(), "x.vmdk");
    }
}
