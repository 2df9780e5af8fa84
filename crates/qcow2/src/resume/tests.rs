//! Writers that go on: what was told is kept, what was not is written over, and nothing lies in two places.

use bytes::Bytes;
use hub_block::BlockDevice;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::{ImageReader, InsideDirectory, Zstd, check_image};

const CLUSTER: u64 = 65_536;

fn options() -> CreateOptions {
    CreateOptions::new(64 * CLUSTER)
}

fn data(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 65_536])
}

#[tokio::test]
async fn what_was_told_is_taken_up_and_the_rest_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    let writer = ImageWriter::create_new(&path, options(), None).unwrap();
    let mut told = Placements::default();
    for cluster in [5, 6, 40] {
        writer.write_at(cluster * CLUSTER, data(u8::try_from(cluster).unwrap())).await.unwrap();
    }
    let mut runs = writer.newly_placed(&mut told).unwrap();
    assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), 3);
    assert!(writer.newly_placed(&mut told).unwrap().is_empty(), "told once");
    writer.write_at(7 * CLUSTER, data(7)).await.unwrap();
    let second = writer.newly_placed(&mut told).unwrap();
    assert_eq!(second.len(), 1);
    runs.extend(second);
    writer.write_at(8 * CLUSTER, data(8)).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);

    let (writer, mut told) = ImageWriter::resume(&path, options(), &runs).unwrap();
    assert_eq!(told.clusters(), 4);
    assert_eq!(writer.read_at(8 * CLUSTER, 512).await.unwrap(), vec![0; 512], "never told");
    for cluster in [5, 6, 7, 40_u8] {
        let read = writer.read_at(u64::from(cluster) * CLUSTER, 65_536).await.unwrap();
        assert_eq!(read, data(cluster));
    }
    assert!(writer.newly_placed(&mut told).unwrap().is_empty(), "nothing is told twice");
    writer.write_at(9 * CLUSTER, data(9)).await.unwrap();
    writer.write_at(5 * CLUSTER, data(55)).await.unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    let report = check_image(&path).unwrap();
    assert!(report.errors.is_empty() && report.leaks.is_empty(), "{report:?}");
    let gate = InsideDirectory::new(folder.path());
    let reader = ImageReader::open_chain(&gate, &path).unwrap();
    for (cluster, byte) in [(5_u64, 55), (6, 6), (7, 7), (8, 0), (9, 9), (40, 40)] {
        assert_eq!(reader.read_at(cluster * CLUSTER, 65_536).await.unwrap(), data(byte));
    }
}

/// Tables that went to the file early are looked at as well, and those of an earlier writer are made anew.
#[tokio::test]
async fn places_are_told_and_taken_up_with_few_tables_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    let options = CreateOptions { cluster_bits: 9, table_memory: 0, ..CreateOptions::new(2 << 20) };
    let writer = ImageWriter::create_new(&path, options.clone(), None).unwrap();
    let mut told = Placements::default();
    let model: Vec<u8> = (0..2 << 20).map(|at: u32| (at % 251).to_le_bytes()[0] | 1).collect();
    let mut runs = Vec::new();
    for (number, piece) in model.chunks(1 << 19).enumerate() {
        let offset = (number as u64) << 19;
        writer.write_at(offset, Bytes::copy_from_slice(piece)).await.unwrap();
        runs.extend(writer.newly_placed(&mut told).unwrap());
        assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), (offset + (1 << 19)) / 512);
    }
    writer.flush().await.unwrap();
    drop(writer);
    let (writer, mut told) = ImageWriter::resume(&path, options, &runs).unwrap();
    assert!(writer.newly_placed(&mut told).unwrap().is_empty());
    assert_eq!(writer.read_at(0, 2 << 20).await.unwrap(), model);
    writer.finish().await.unwrap();
    drop(writer);
    assert!(check_image(&path).unwrap().is_clean());
    let gate = InsideDirectory::new(folder.path());
    let reader = ImageReader::open_chain(&gate, &path).unwrap();
    assert_eq!(reader.read_at(0, 2 << 20).await.unwrap(), model);
}

/// How many bytes of a file the page cache holds, if there is somebody to ask; a file system that is nothing but
/// memory is not asked.
fn cached(path: &Path) -> Option<u64> {
    const TMPFS: i64 = 0x0102_1994;
    if rustix::fs::statfs(path).ok()?.f_type == TMPFS {
        return None;
    }
    let args = ["--bytes", "--noheadings", "--output", "RES"];
    let asked = std::process::Command::new("fincore").args(args).arg(path).output();
    let answer = asked.ok().filter(|it| it.status.success())?;
    String::from_utf8(answer.stdout).ok()?.trim().parse().ok()
}

/// What an earlier process left is proven from the disk: its pages may be in memory although the disk refused them.
#[tokio::test]
async fn what_is_read_back_comes_from_the_disk_and_not_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    let mut bytes = vec![0; 65_536];
    bytes.extend(vec![7; 65_536]);
    std::fs::write(&path, bytes).unwrap();
    let before = cached(&path);
    if before.is_none_or(|cached| cached == 0) {
        eprintln!("SKIPPED: nobody says what the page cache holds");
        return;
    }
    let run = PlacedRun { guest: 3, host: 1, count: 1 };
    let (writer, _) = ImageWriter::resume(&path, options(), &[run]).unwrap();
    assert_eq!(cached(&path), Some(0), "{before:?} before");
    assert_eq!(writer.read_at(3 * CLUSTER, 65_536).await.unwrap(), data(7));
}

#[tokio::test]
async fn places_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    let writer = ImageWriter::create_new(&path, options(), None).unwrap();
    for cluster in 0..4 {
        writer.write_at(cluster * CLUSTER, data(1)).await.unwrap();
    }
    writer.flush().await.unwrap();
    drop(writer);
    let run = |guest, host, count| PlacedRun { guest, host, count };
    let length = std::fs::metadata(&path).unwrap().len() / CLUSTER;
    for bad in [
        vec![run(0, 0, 1)],
        vec![run(0, length, 1)],
        vec![run(0, 1, length)],
        vec![run(64, 1, 1)],
        vec![run(u64::MAX, 1, 2)],
        vec![run(0, u64::MAX, 2)],
        vec![run(0, 1, 0)],
        vec![run(0, 1, 2), run(9, 2, 1)],
    ] {
        let refused = ImageWriter::resume(&path, options(), &bad);
        assert!(matches!(refused, Err(CreateError::NotResumable { .. })), "{bad:?}");
    }
    // A cluster that was placed anew is at its last place only.
    let moved = [run(0, 1, 2), run(0, 3, 1), run(5, 1, 1)];
    ImageWriter::resume(&path, options(), &moved).unwrap();

    let (writer, _) = ImageWriter::resume(&path, options(), &[run(0, 1, 1)]).unwrap();
    writer.finish().await.unwrap();
    drop(writer);
    let refused = ImageWriter::resume(&path, options(), &[run(0, 1, 1)]);
    assert!(matches!(refused, Err(CreateError::NotResumable { .. })), "it is an image now");
}

/// What happens to an image between two kills.
#[derive(Clone, Debug)]
enum Act {
    /// Bytes from a seed, noise or such as shrink.
    Write {
        offset: u64,
        len: u64,
        seed: u8,
        noise: bool,
    },
    Zero {
        offset: u64,
        len: u64,
    },
    /// A checkpoint.
    Tell,
}

const SMALL: u64 = 4096;
const DISK: u64 = 24 * SMALL + 1536;

fn act() -> impl Strategy<Value = Act> {
    let whole = (0..24_u64, 1..6_u64)
        .prop_map(|(first, count)| (first * SMALL, (count * SMALL).min(DISK - first * SMALL)));
    let odd = (0..DISK - 1, 1..3 * SMALL).prop_map(|(at, len)| (at, len.min(DISK - at)));
    let range = prop_oneof![3 => whole, 1 => odd];
    let write = (range.clone(), 1..=255_u8, prop::bool::ANY)
        .prop_map(|((offset, len), seed, noise)| Act::Write { offset, len, seed, noise });
    let zero = range.prop_map(|(offset, len)| Act::Zero { offset, len });
    prop_oneof![6 => write, 2 => zero, 2 => Just(Act::Tell)]
}

fn bytes(len: u64, seed: u8, noise: bool) -> Vec<u8> {
    let mut bytes = vec![seed; usize::try_from(len).unwrap()];
    if noise {
        let mut state = u32::from(seed) | 1;
        for byte in &mut bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0];
        }
    }
    bytes
}

/// Lives of writers, each of which goes on with what the one before had told; compression comes and goes.
///
/// What an image reads as after a kill is for the caller to compare; from there on it has to keep what is written.
async fn lives(lives: Vec<(bool, Vec<Act>)>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    let (mut runs, mut model) = (Vec::new(), vec![0; usize::try_from(DISK).unwrap()]);
    let count = lives.len();
    for (number, (compressed, acts)) in lives.into_iter().enumerate() {
        let options = CreateOptions {
            cluster_bits: 12,
            table_memory: 0,
            compression: compressed.then(Zstd::default),
            ..CreateOptions::new(DISK)
        };
        let (writer, mut told) = if number == 0 {
            (ImageWriter::create_new(&path, options, None).unwrap(), Placements::default())
        } else {
            ImageWriter::resume(&path, options, &runs).unwrap()
        };
        let length = u32::try_from(DISK).unwrap();
        if number > 0 {
            model = writer.read_at(0, length).await.unwrap().to_vec();
        }
        for act in acts {
            match act {
                Act::Write { offset, len, seed, noise } => {
                    let data = bytes(len, seed, noise);
                    let at = usize::try_from(offset).unwrap();
                    model[at..at + data.len()].copy_from_slice(&data);
                    writer.write_at(offset, data.into()).await.unwrap();
                }
                Act::Zero { offset, len } => {
                    let at = usize::try_from(offset).unwrap();
                    model[at..at + usize::try_from(len).unwrap()].fill(0);
                    writer.write_zeroes(offset, len).await.unwrap();
                }
                Act::Tell => {
                    let placed = writer.newly_placed(&mut told).unwrap();
                    writer.flush().await.unwrap();
                    runs.extend(placed);
                }
            }
        }
        prop_assert!(writer.read_at(0, length).await.unwrap() == model, "life {number}");
        if number + 1 == count {
            writer.finish().await.unwrap();
        }
    }
    let report = check_image(&path).unwrap();
    prop_assert!(report.errors.is_empty() && report.leaks.is_empty(), "{report:?}");
    let reader = ImageReader::open_chain(&InsideDirectory::new(folder.path()), &path).unwrap();
    prop_assert!(reader.read_at(0, u32::try_from(DISK).unwrap()).await.unwrap() == model);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However often it is killed and whatever is compressed: no cluster comes to lie on another.
    #[test]
    fn an_image_of_several_lives_is_whole(
        all in prop::collection::vec((any::<bool>(), prop::collection::vec(act(), 0..14)), 1..5)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(lives(all))?;
    }
}
