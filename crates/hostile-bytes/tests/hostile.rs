//! Whatever bytes come: no panic, no unbounded memory, no hang. The fuzz targets in the form of property tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context as _, Result, ensure};
use hub_hostile_bytes::{TARGETS, Target};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Counts what is allocated; that is why these tests have a binary of their own.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What an input of a few KiB may cost at most, in MiB: pools and buffers of fixed size, and no more.
const MOST: f32 = 64.0;

/// Inputs per target, made up and mutated.
const CASES: u32 = 96;

fn corpus(target: &Target) -> Result<Vec<Vec<u8>>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let entries = std::fs::read_dir(root.join(target.name))
        .with_context(|| format!("the corpus of {}", target.name))?;
    let mut files = entries.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let inputs = files.iter().map(|path| Ok(std::fs::read(path)?));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    ensure!(!inputs.is_empty(), "{} has no corpus", target.name);
    Ok(inputs)
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Number(prop::sample::Index, u64, usize),
    Truncate(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    // Sizes, counts and offsets at the edges of what a parser computes with, in either byte order.
    let edges = prop::sample::select(vec![
        0,
        1,
        2,
        7,
        8,
        9,
        21,
        22,
        63,
        64,
        255,
        512,
        4096,
        65_535,
        65_536,
        1 << 21,
        1 << 31,
        1 << 32,
        1 << 40,
        1 << 55,
        1 << 56,
        1 << 62,
        1 << 63,
        u64::MAX,
        u64::MAX - 511,
        0x0001_0000_0000_0000,
        0x0100_0000_0000_0000,
        0xffff_0000_0000_0000,
        0xffff_ffff,
        0x7fff_ffff,
        0xffff_fe00,
    ]);
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit % 8)),
        4 => (index(), edges, prop::sample::select(vec![2, 4, 8]))
            .prop_map(|(at, value, len)| Change::Number(at, value, len)),
        1 => index().prop_map(Change::Truncate),
        1 => (index(), index()).prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if input.is_empty() {
            break;
        }
        match change {
            Change::Flip(at, bit) => {
                let at = at.index(input.len());
                input[at] ^= 1 << bit;
            }
            Change::Number(at, value, len) => {
                let at = at.index(input.len());
                let bytes = if value % 2 == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
                let end = (at + len).min(input.len());
                let bytes = if value % 2 == 0 { &bytes[8 - len..] } else { &bytes[..*len] };
                input[at..end].copy_from_slice(&bytes[..end - at]);
            }
            Change::Truncate(at) => input.truncate(at.index(input.len())),
            Change::Repeat(from, to) => {
                let (from, to) = (from.index(input.len()), to.index(input.len()));
                let piece = input[from.min(to)..from.max(to)].to_vec();
                input.extend_from_slice(&piece[..piece.len().min(4096)]);
            }
            Change::Insert(at, bytes) => {
                let at = at.index(input.len());
                input.splice(at..at, bytes.iter().copied());
            }
        }
    }
    input
}

/// Panics so far: a server goes on when one of its sessions has panicked, so nobody else would see it.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
    });
}

/// Runs one input, and fails when it panics anywhere, or takes more memory than a few KiB of input can explain.
fn run(target: &Target, input: &[u8]) -> std::result::Result<(), TestCaseError> {
    count_panics();
    let panics = PANICS.load(Ordering::Relaxed);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage_as_mb();
    (target.run)(input).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    prop_assert!(PANICS.load(Ordering::Relaxed) == panics, "{} panicked in a task", target.name);
    let taken = MEMORY.peak_usage_as_mb() - before;
    prop_assert!(taken < MOST, "{} took {taken} MiB for {} bytes", target.name, input.len());
    Ok(())
}

fn stands(name: &str) -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|it| it.name == name).context("no such target")?;
    let corpus = corpus(target)?;
    for input in &corpus {
        run(target, input).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let anything = prop::collection::vec(any::<u8>(), 0..2048);
    let mutated = (prop::sample::select(corpus), prop::collection::vec(change(), 1..6))
        .prop_map(|(input, changes)| changed(input, &changes));
    let inputs = prop_oneof![1 => anything, 5 => mutated];
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    // Failures of this kind are no errors, but they tell the input that did it.
    TestRunner::new(config)
        .run(&inputs, |input| run(target, &input))
        .map_err(|error| anyhow::anyhow!("{error}"))
}

#[test]
fn a_server_stands_any_client() {
    stands("nbd_server").unwrap();
}

#[test]
fn a_client_stands_any_server() {
    stands("nbd_client").unwrap();
}

#[test]
fn an_image_may_hold_anything() {
    stands("qcow2_image").unwrap();
}

#[test]
fn a_manifest_may_hold_anything() {
    stands("manifest").unwrap();
}

#[test]
fn a_descriptor_may_hold_anything() {
    stands("vmdk_descriptor").unwrap();
}

#[test]
fn a_vmdk_may_hold_anything() {
    stands("vmdk_file").unwrap();
}

#[test]
fn a_vmx_may_hold_anything() {
    stands("vmx").unwrap();
}

#[test]
fn a_vcenter_may_answer_anything() {
    stands("vsphere_answer").unwrap();
}

#[test]
fn a_vcenter_may_answer_with_elements_of_any_depth() {
    // What it takes would be counted as another's.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let depth = 200_000;
    for element in ["childSnapshotList", "a"] {
        let (begin, end) =
            (format!("<{element}>").repeat(depth), format!("</{element}>").repeat(depth));
        hub_hostile_bytes::network::vsphere_answer((begin.clone() + &end).as_bytes()).unwrap();
        hub_hostile_bytes::network::vsphere_answer(begin.as_bytes()).unwrap();
    }
}

/// A panic of a task is seen, though the task's owner goes on.
#[test]
fn a_panic_in_a_task_is_no_secret() {
    fn panicking(_: &[u8]) -> Result<()> {
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
        Ok(())
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = Target { name: "panicking", run: panicking };
    let seen = run(&target, b"").unwrap_err().to_string();
    assert!(seen.contains("panicked in a task"), "{seen}");
}

#[test]
fn every_target_has_a_test_and_a_fuzz_target() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        assert!(include_str!("hostile.rs").contains(&format!("stands(\"{}\")", target.name)));
    }
}
