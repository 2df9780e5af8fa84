//! Memory: what VMA and hub hold at most while they copy, whatever the disk's size.

use anyhow::Result;
use hub_tests::datastore::{Content, DiskSpec, Subformat};

use crate::copy::plan::{PIECE, spread};
use crate::figures::{self, Figure};
use crate::ours::Ours;
use crate::workshop::{self, Terms, say};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The most that one copy may hold at either end, in MiB.
const BOUND: f64 = 128.0;

/// Pieces that change between two points.
const CHANGES: usize = 64;

/// How large the disks are.
#[derive(clap::Args)]
pub(crate) struct MemoryArguments {
    #[command(flatten)]
    terms: Terms,
}

/// Copies each disk in full, by digest, and verifies it.
pub(crate) async fn run(arguments: &MemoryArguments) -> Result<()> {
    let shrink = arguments.terms.shrink();
    let flat = |capacity, seed, areas| DiskSpec {
        capacity,
        subformat: Subformat::MonolithicFlat,
        content: Content::Noise { seed, areas },
    };
    let dense = 4 * GIB / shrink;
    // A piece under each of many tables of an image, more than are kept in memory.
    let (vast, tables) = (8 << 40, 4096 / shrink);
    let disks = [
        ("half full", flat(dense, 1 << 32, spread(dense, MIB, 2 * MIB))),
        ("8 TiB, sparse", flat(vast, 2 << 32, spread(vast, PIECE, vast / tables))),
    ];
    let mut figures = Vec::new();
    for (name, disk) in disks {
        measure(arguments, name, &disk, &mut figures).await?;
    }
    let title = format!("most memory, {}", arguments.terms.size());
    figures::show(&title, &figures, arguments.terms.json.as_deref())
}

async fn measure(
    arguments: &MemoryArguments,
    name: &str,
    disk: &DiskSpec,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    say(&format!("{name}: making the disk …"));
    let folder = workshop::folder(&arguments.terms)?;
    let ours = Ours::start(folder.path(), std::slice::from_ref(disk)).await?;
    let mut note = |ours: &Ours, what: &str| -> Result<()> {
        let [vma, hub] = ours.peaks()?;
        figures.push(Figure::at_most(name, &format!("VMA, {what}"), vma, BOUND, "MiB"));
        figures.push(Figure::at_most(name, &format!("hub, {what}"), hub, BOUND, "MiB"));
        ours.forget_peaks()
    };
    note(&ours, "before a copy")?;
    say(&format!("{name}: copying …"));
    let full = ours.back_up("full").await?;
    note(&ours, "full copy")?;
    let stride = disk.capacity / CHANGES as u64 / PIECE * PIECE;
    let pieces: Vec<_> = (0..CHANGES as u64).map(|it| it * stride).collect();
    ours.change(&pieces, PIECE, 99)?;
    let later = ours.back_up("incremental").await?;
    later.found_by("by_digest")?;
    note(&ours, "incremental by digest")?;
    say(&format!("{name}: verifying …"));
    for copied in [&full, &later] {
        ours.verify(copied).await?;
    }
    note(&ours, "verification")?;
    ours.stop().await
}
