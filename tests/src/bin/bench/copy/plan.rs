//! Which disks are copied, by whom, and what the figures are held against; decided without running anything.

use std::ops::Range;

use hub_tests::datastore::{Content, DiskSpec, Subformat};

use super::peers::Peer;

pub(super) const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of a piece that changes, and of a digest block.
pub(crate) const PIECE: u64 = 64 * 1024;

/// Disks copied at once where it is about many.
const MANY: u64 = 10;

/// One VM, and what is measured on it.
pub(super) struct Scenario {
    /// Letter and layout, such as `a/sparse`.
    pub(super) name: String,
    pub(super) disks: Vec<DiskSpec>,
    /// Who copies the same disks in full.
    pub(super) peers: &'static [Peer],
    /// Whether the repository compresses.
    pub(super) compressed: bool,
    /// What a full copy is held against.
    pub(super) goals: Goals,
    /// Whether incrementals are measured after the full copies.
    pub(super) with_changes: bool,
}

/// Upper bounds; none where there is no goal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Goals {
    /// Ours ÷ the best of the tuned peers.
    pub(super) tuned: Option<f64>,
    /// Ours ÷ the best of the peers with their defaults.
    pub(super) default: Option<f64>,
    /// Ours ÷ our own full copy of the same disk.
    pub(super) full: Option<f64>,
    /// Bytes read ÷ bytes that the source has allocated.
    pub(super) read: Option<f64>,
    /// Bytes sent ÷ bytes that had changed.
    pub(super) sent: Option<f64>,
    /// Bytes read ÷ bytes that had changed or were audited.
    pub(super) read_changed: Option<f64>,
    /// Bytes of our image ÷ bytes of the smallest image of a tuned peer.
    pub(super) image: Option<f64>,
}

/// What an incremental is held against.
pub(super) fn incremental_goals(changed_areas: bool) -> Goals {
    let sent = Some(1.05);
    if changed_areas {
        return Goals { full: Some(0.05), sent, read_changed: Some(1.05), ..Goals::default() };
    }
    Goals { read: Some(1.02), sent, ..Goals::default() }
}

/// All scenarios; quick ones are an eighth as large, or as `shrink` says.
pub(super) fn scenarios(shrink: u64) -> Vec<Scenario> {
    let (half, thin, files) = (8 * GIB / shrink, 32 * GIB / shrink, 4 * GIB / shrink);
    let full = |name: &str, capacity, subformat, content, tuned, default| Scenario {
        name: name.to_owned(),
        disks: vec![DiskSpec { capacity, subformat, content }],
        peers: &Peer::FULL,
        compressed: false,
        goals: Goals { tuned: Some(tuned), default, read: Some(1.02), ..Goals::default() },
        with_changes: name == "a/sparse",
    };
    let half_random = |seed| Content::Noise { seed, areas: spread(half, MIB, 2 * MIB) };
    let scattered = || Content::Noise { seed: 2 << 32, areas: spread(thin, MIB / 4, 50 * MIB / 4) };
    let tree = || Content::Copies { of: "/usr".into(), bytes: files / 10 * 8 };
    let (sparse, flat) = (Subformat::MonolithicSparse, Subformat::MonolithicFlat);
    let mut compressed = full("c/zstd", files, sparse, tree(), 0.7, None);
    compressed.peers = &Peer::COMPRESSED;
    compressed.compressed = true;
    compressed.goals.image = Some(1.02);
    vec![
        full("a/sparse", half, sparse, half_random(1 << 32), 0.5, Some(0.4)),
        full("a/flat", half, flat, half_random(1 << 32), 0.8, Some(0.4)),
        full("b/sparse", thin, sparse, scattered(), 0.6, None),
        full("b/flat", thin, flat, scattered(), 0.8, None),
        full("c/sparse", files, sparse, tree(), 0.8, None),
        compressed,
        many("e/sparse", half / MANY / (2 * MIB) * (2 * MIB), sparse, 0.5),
        many("e/flat", half / MANY / (2 * MIB) * (2 * MIB), flat, 0.8),
    ]
}

/// Ten disks that hold together what the one of (a) holds; they have its goals.
fn many(name: &str, capacity: u64, subformat: Subformat, tuned: f64) -> Scenario {
    let disk = |number| {
        let content = Content::Noise { seed: number << 32, areas: spread(capacity, MIB, 2 * MIB) };
        DiskSpec { capacity, subformat, content }
    };
    Scenario {
        name: name.to_owned(),
        disks: (1..=MANY).map(disk).collect(),
        peers: &Peer::MANY,
        compressed: false,
        goals: Goals { tuned: Some(tuned), read: Some(1.02), ..Goals::default() },
        with_changes: false,
    }
}

/// Areas of `len` bytes, one at the beginning of every `stride`.
pub(crate) fn spread(capacity: u64, len: u64, stride: u64) -> Vec<Range<u64>> {
    let starts = (0..).map(|it| it * stride).take_while(|start| start + len <= capacity);
    starts.map(|start| start..start + len).collect()
}

/// Where a hundredth of a disk changes, piece by piece; in data and in holes alike.
pub(super) fn changed_pieces(capacity: u64) -> Vec<u64> {
    let count = (capacity / 100 / PIECE).max(1);
    let stride = capacity / count / PIECE * PIECE;
    (0..count).map(|it| it * stride).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(disk: &DiskSpec) -> f64 {
        let bytes: u64 = match &disk.content {
            Content::Noise { areas, .. } => areas.iter().map(|it| it.end - it.start).sum(),
            Content::Files { bytes, .. } | Content::Copies { bytes, .. } => *bytes,
        };
        #[expect(clippy::cast_precision_loss, reason = "a share of a few digits")]
        let share = bytes as f64 / disk.capacity as f64;
        share
    }

    #[test]
    fn the_disks_hold_what_they_are_said_to() {
        for shrink in [1, 2, 8] {
            for it in scenarios(shrink) {
                let expected = match it.name.get(..1) {
                    Some("a" | "e") => 0.5,
                    Some("b") => 0.02,
                    _ => 0.8,
                };
                for disk in &it.disks {
                    let share = share(disk);
                    assert!((share - expected).abs() < 0.001, "{}: {share}", it.name);
                }
            }
        }
    }

    #[test]
    fn a_hundredth_changes_in_whole_pieces_inside_the_disk() {
        for capacity in [GIB, 8 * GIB] {
            let pieces = changed_pieces(capacity);
            let bytes = pieces.len() as u64 * PIECE;
            assert!(bytes <= capacity / 100 && bytes > capacity / 101, "{bytes}");
            assert!(pieces.iter().all(|at| at % PIECE == 0 && at + PIECE <= capacity));
            assert!(pieces.windows(2).all(|pair| matches!(pair, [a, b] if a + PIECE <= *b)));
            // Data lies in every other MiB.
            let in_data = pieces.iter().filter(|at| (*at / MIB).is_multiple_of(2)).count();
            assert!(in_data * 3 > pieces.len() && in_data * 3 < pieces.len() * 2, "{in_data}");
        }
    }
}
