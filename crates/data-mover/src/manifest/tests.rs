//! The manifest's round trip, and everything that is not one.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::digest_table::usize_of;
use crate::oracle::{Oracle, table_of};
use crate::{BlockSize, Digest, DigestTable, ImageSeal};

const CAPACITY: usize = 40 * 4_096 + 512;

fn identity() -> ManifestIdentity {
    ManifestIdentity {
        point_id: "0192-point".to_owned(),
        vm_context_id: "0192-context".to_owned(),
        vm_name: "Größe, / \"東京\"".to_owned(),
        vm_id: "4205784a".to_owned(),
        vcenter_host: "vc.example.local".to_owned(),
        disk_ordinal: 1,
        disk_key: "disk-2001".to_owned(),
        capacity_bytes: CAPACITY as u64,
        block_size: 4_096,
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        backup_type: "incremental".to_owned(),
        method: "digest".to_owned(),
        method_reason: "the source names no changed areas".to_owned(),
        parent: Some(ManifestParent { point_id: "0191".to_owned(), root: Digest::of(b"p") }),
        image_file: "disk-1.qcow2".to_owned(),
        source_root: Some(Digest::of(b"s")),
        change_id: None,
        image_seal: Some(ImageSeal {
            file_bytes: 1 << 20,
            span_bytes: 1 << 19,
            spans: vec![Digest::of(b"1"), Digest::ZERO],
        }),
    }
}

struct Sealed {
    _folder: tempfile::TempDir,
    path: PathBuf,
    root: Digest,
    digests: Vec<Digest>,
}

fn sealed(identity: ManifestIdentity) -> Sealed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("point.manifest.part");
    let content = Oracle::new(1).mixed(CAPACITY, 4_096, &[1, 0, 2]);
    let table = table_of(&content, BlockSize::MIN).unwrap();
    let writer = ManifestWriter::create_new(&path, CAPACITY as u64, BlockSize::MIN).unwrap();
    writer.table().copy_from(&table).unwrap();
    let root = writer.seal(identity).unwrap();
    let digests = table.get_many(0, usize_of(table.block_count())).unwrap();
    Sealed { _folder: folder, path, root, digests }
}

fn open(path: &Path) -> Result<Manifest, ManifestError> {
    let manifest = Manifest::open(path)?;
    manifest.check_table()?;
    Ok(manifest)
}

#[test]
fn what_was_sealed_is_read() {
    let made = sealed(identity());
    let manifest = open(&made.path).unwrap();
    assert_eq!(manifest.identity(), &identity());
    assert_eq!(manifest.root(), made.root);
    let table = manifest.table();
    assert_eq!(table.get_many(0, 41).unwrap(), made.digests);
    assert_eq!((table.capacity(), table.block_size()), (CAPACITY as u64, BlockSize::MIN));
    assert!(table.set(0, Digest::ZERO).is_err());
}

/// A reader made from the description alone, with none of this crate's code but the hash.
#[test]
fn the_format_is_the_described_one() {
    let made = sealed(identity());
    let file = fs::read(&made.path).unwrap();
    let number = |at: usize, len: usize| {
        file[at..at + len].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    assert_eq!(&file[..8], b"SHUBMANI");
    assert_eq!((number(8, 4), number(12, 4)), (1, 16_384));
    assert_eq!((number(20, 4), number(24, 8)), (4_096, CAPACITY as u64));
    assert_eq!(file.len(), 16_384 + 41 * 32);
    let covered = [&file[..64], &file[96..16_384]].concat();
    assert_eq!(&file[64..96], blake3::hash(&covered).as_bytes());
    let json: serde_json::Value =
        serde_json::from_slice(&file[96..96 + usize_of(number(16, 4))]).unwrap();
    assert_eq!(json["disk_key"], "disk-2001");
    assert_eq!(json["parent"]["root"], Digest::of(b"p").to_string());
    let root_input = [
        &b"sendense-digest-table-v1"[..],
        &file[24..32],
        &file[20..24],
        blake3::hash(&file[16_384..]).as_bytes(),
    ]
    .concat();
    assert_eq!(&file[32..64], blake3::hash(&root_input).as_bytes());
}

/// P4: one flipped bit anywhere in the file is found.
#[test]
fn every_flipped_bit_is_found() {
    let made = sealed(identity());
    let good = fs::read(&made.path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&made.path).unwrap();
    let put = |byte: u8, bit: usize| file.write_all_at(&[byte], bit as u64 / 8).unwrap();
    let (fixed, identity) = (0..96 * 8, (96 * 8..1200 * 8).step_by(7));
    let (padding, table) = (1200 * 8..16_384 * 8, 16_384 * 8..good.len() * 8);
    let others = identity.chain(padding.step_by(997)).chain(table.step_by(7));
    for bit in fixed.chain(others) {
        put(good[bit / 8] ^ (1 << (bit % 8)), bit);
        let refused = open(&made.path);
        assert!(refused.is_err(), "bit {bit}");
        if bit >= 16_384 * 8 {
            assert!(matches!(refused, Err(ManifestError::TableDamaged { .. })), "bit {bit}");
        }
        put(good[bit / 8], bit);
    }
    open(&made.path).unwrap();
}

#[test]
fn truncated_and_longer_files_are_refused() {
    let made = sealed(identity());
    let good = fs::read(&made.path).unwrap();
    for len in [0, 7, 95, 96, 4_096, 16_383] {
        fs::write(&made.path, &good[..len]).unwrap();
        assert!(matches!(open(&made.path), Err(ManifestError::NotAManifest)), "{len}");
    }
    for len in [16_384, good.len() - 32, good.len() - 1, good.len() + 1, good.len() + 32] {
        let mut other = good.clone();
        other.resize(len, 0);
        fs::write(&made.path, &other).unwrap();
        assert!(matches!(open(&made.path), Err(ManifestError::FileLength { .. })), "{len}");
    }
}

#[test]
fn an_unsealed_file_is_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    let writer = ManifestWriter::create_new(&path, 8_192, BlockSize::MIN).unwrap();
    writer.table().set(0, Digest::of(b"x")).unwrap();
    drop(writer);
    assert!(matches!(open(&path), Err(ManifestError::NotAManifest)));
}

/// Trap D14: nothing is ever written over.
#[test]
fn an_existing_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    fs::write(&path, b"precious").unwrap();
    let refused = ManifestWriter::create_new(&path, 8_192, BlockSize::MIN);
    assert!(matches!(refused, Err(ManifestError::Io(_))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// Promise P5: who could not begin a manifest has nothing to remove, so nobody would.
#[test]
fn p5_a_manifest_that_could_not_be_begun_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    let begin = || ManifestWriter::create_new(&path, 8_192, BlockSize::MIN);
    let full = hub_block::failpoint::with_orders("manifest.created=enospc", begin).unwrap();
    assert!(matches!(full, Err(ManifestError::Io(_))));
    assert!(!path.exists());
}

#[test]
fn a_sealed_table_cannot_be_written_by_who_still_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    let writer = ManifestWriter::create_new(&path, CAPACITY as u64, BlockSize::MIN).unwrap();
    let table = writer.table();
    writer.seal(identity()).unwrap();
    assert!(table.set(0, Digest::of(b"x")).is_err());
    open(&path).unwrap();
}

fn refused(change: impl FnOnce(&mut ManifestIdentity, &DigestTable)) -> ManifestError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part");
    let writer = ManifestWriter::create_new(&path, CAPACITY as u64, BlockSize::MIN).unwrap();
    let mut identity = identity();
    change(&mut identity, &writer.table());
    let error = writer.seal(identity).unwrap_err();
    assert!(matches!(open(&path), Err(ManifestError::NotAManifest)));
    error
}

#[test]
fn what_cannot_be_true_is_not_sealed() {
    let error = refused(|identity, _| identity.capacity_bytes += 512);
    assert!(matches!(error, ManifestError::Disagrees("capacity")));
    let error = refused(|identity, _| identity.image_seal.as_mut().unwrap().file_bytes = 5);
    assert!(matches!(error, ManifestError::Disagrees("spans of the image")));
    let error = refused(|identity, _| identity.block_size = 65_536);
    assert!(matches!(error, ManifestError::Disagrees("block size")));
    let error = refused(|identity, _| identity.vm_name = "x".repeat(20_000));
    assert!(matches!(error, ManifestError::IdentityTooLong { room: 16_288, .. }));
    let error = refused(|_, table| table.set(3, Digest::UNKNOWN).unwrap());
    assert!(matches!(error, ManifestError::Io(_)));
}

/// The header's fields, changed and signed again as an attacker or a later version would.
fn resigned(change: impl FnOnce(&mut Vec<u8>)) -> Result<Manifest, ManifestError> {
    let made = sealed(identity());
    let mut file = fs::read(&made.path).unwrap();
    change(&mut file);
    let digest = blake3::hash(&[&file[..64], &file[96..16_384]].concat());
    file[64..96].copy_from_slice(digest.as_bytes());
    fs::write(&made.path, &file).unwrap();
    open(&made.path)
}

#[test]
fn lengths_in_the_header_are_bounded_before_they_are_followed() {
    for len in [0_u32, 96, 4_095, 65_537, 1 << 20, u32::MAX] {
        let error = resigned(|file| file[12..16].copy_from_slice(&len.to_le_bytes())).unwrap_err();
        assert!(matches!(error, ManifestError::HeaderLength { .. }), "{len}: {error}");
    }
    for len in [16_289_u32, u32::MAX] {
        let error = resigned(|file| file[16..20].copy_from_slice(&len.to_le_bytes())).unwrap_err();
        assert!(matches!(error, ManifestError::HeaderLength { .. }), "{len}: {error}");
    }
    let error = resigned(|file| file[20..24].copy_from_slice(&[0; 4])).unwrap_err();
    assert!(matches!(error, ManifestError::BlockSize(_)));
    let error = resigned(|file| file[24..32].fill(0xFF)).unwrap_err();
    assert!(matches!(error, ManifestError::Disagrees("capacity")));
    let error = resigned(|file| file[8] = 2).unwrap_err();
    assert!(matches!(error, ManifestError::UnknownVersion(2)));
}

#[test]
fn unknown_members_are_ignored_and_optional_ones_may_be_absent() {
    let old = resigned(|file| {
        let mut json = serde_json::to_value(identity()).unwrap();
        json["later"] = serde_json::json!({"some": ["thing"]});
        for gone in ["parent", "change_id", "source_root", "method_reason", "image_seal"] {
            json.as_object_mut().unwrap().remove(gone);
        }
        let json = serde_json::to_vec(&json).unwrap();
        file[96..16_384].fill(0);
        file[96..96 + json.len()].copy_from_slice(&json);
        file[16..20].copy_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
    });
    let identity = old.unwrap().identity().clone();
    assert_eq!((identity.parent, identity.source_root, identity.image_seal), (None, None, None));
    assert_eq!(identity.disk_key, "disk-2001");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a header says, and whoever has signed it, the answer is an error or a manifest.
    #[test]
    fn any_header_is_refused_or_read(
        changes in prop::collection::vec((0_usize..160, any::<[u8; 4]>()), 0..6),
        json in prop::option::of("[ -~]{0,300}"),
        len in prop::option::of(0_usize..20_000),
        signed in any::<bool>(),
    ) {
        let made = sealed(identity());
        let mut file = fs::read(&made.path).unwrap();
        if let Some(json) = json {
            file[96..96 + json.len()].copy_from_slice(json.as_bytes());
            file[16..20].copy_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
        }
        for (at, bytes) in changes {
            file[at..at + 4].copy_from_slice(&bytes);
        }
        if signed {
            let digest = blake3::hash(&[&file[..64], &file[96..16_384]].concat());
            file[64..96].copy_from_slice(digest.as_bytes());
        }
        file.truncate(len.unwrap_or(file.len()));
        fs::write(&made.path, &file).unwrap();
        if let Ok(manifest) = open(&made.path) {
            prop_assert_eq!(manifest.identity().capacity_bytes, manifest.table().capacity());
        }
    }
}
