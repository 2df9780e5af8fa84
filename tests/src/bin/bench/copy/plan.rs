//! Which disks are copied, by whom, and what the figures are held against; decided without running anything.

use std::ops::Range;

use hub_tests::datastore::{Content, DiskSpec, Subformat};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of a piece that changes, and of a digest block.
pub(super) const PIECE: u64 = 64 * 1024;

/// One disk, and what is measured on it.
pub(super) struct Scenario {
    /// Letter and layout, such as `a/sparse`.
    pub(super) name: String,
    pub(super) disk: DiskSpec,
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
    /// Bytes read ÷ bytes that had changed.
    pub(super) read_changed: Option<f64>,
}

/// A tool that does the same work without us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// `qemu-img convert -O qcow2`.
    Convert,
    /// Into a made image, out of order, 16 requests, without the page cache.
    ConvertTuned,
    /// `nbdcopy` into `qemu-nbd`.
    NbdCopy,
    /// 4 connections of 16 requests of 1 MiB, the target without the page cache.
    NbdCopyTuned,
    /// `qemu-img convert -B`, source by NBD: it copies all, because the export has no layers.
    Overlay,
    /// The same, tuned as [`Peer::ConvertTuned`].
    OverlayTuned,
    /// `qemu-img convert -B` that opens the snapshot chain itself, and copies its top layer.
    OverlayLocal,
}

impl Peer {
    /// Those that make a full copy.
    pub(super) const FULL: [Self; 4] =
        [Self::Convert, Self::ConvertTuned, Self::NbdCopy, Self::NbdCopyTuned];

    /// Those beside an incremental of a disk without layers.
    pub(super) const BY_DIGEST: [Self; 2] = [Self::Overlay, Self::OverlayTuned];

    /// Those beside an incremental whose changes a snapshot tells.
    pub(super) const CHANGED: [Self; 3] = [Self::Overlay, Self::OverlayTuned, Self::OverlayLocal];

    /// The name in the table.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::ConvertTuned => "convert tuned",
            Self::NbdCopy => "nbdcopy",
            Self::NbdCopyTuned => "nbdcopy tuned",
            Self::Overlay => "convert -B",
            Self::OverlayTuned => "convert -B tuned",
            Self::OverlayLocal => "convert -B, top layer, no NBD",
        }
    }

    /// Whether it is used better than by default.
    pub(super) const fn is_tuned(self) -> bool {
        match self {
            Self::ConvertTuned | Self::NbdCopyTuned | Self::OverlayTuned | Self::OverlayLocal => {
                true
            }
            Self::Convert | Self::NbdCopy | Self::Overlay => false,
        }
    }
}

/// What an incremental is held against.
pub(super) fn incremental_goals(changed_areas: bool) -> Goals {
    let sent = Some(1.05);
    if changed_areas {
        return Goals { full: Some(0.05), sent, read_changed: Some(1.05), ..Goals::default() };
    }
    Goals { read: Some(1.02), sent, ..Goals::default() }
}

/// All scenarios; quick ones are an eighth as large.
pub(super) fn scenarios(quick: bool) -> Vec<Scenario> {
    let scale = if quick { 8 } else { 1 };
    let half = 8 * GIB / scale;
    let thin = 32 * GIB / scale;
    let files = 4 * GIB / scale;
    let full = |name: &str, capacity, subformat, content, tuned, default| Scenario {
        name: name.to_owned(),
        disk: DiskSpec { capacity, subformat, content },
        goals: Goals { tuned: Some(tuned), default, read: Some(1.02), ..Goals::default() },
        with_changes: name == "a/sparse",
    };
    let half_random = || Content::Noise { seed: 1 << 32, areas: spread(half, MIB, 2 * MIB) };
    let scattered = || Content::Noise { seed: 2 << 32, areas: spread(thin, MIB / 4, 50 * MIB / 4) };
    let tree = Content::Files { name: "bench".to_owned(), bytes: files / 10 * 8, seed: 3 << 32 };
    let (sparse, flat) = (Subformat::MonolithicSparse, Subformat::MonolithicFlat);
    vec![
        full("a/sparse", half, sparse, half_random(), 0.5, Some(0.4)),
        full("a/flat", half, flat, half_random(), 0.8, Some(0.4)),
        full("b/sparse", thin, sparse, scattered(), 0.6, None),
        full("b/flat", thin, flat, scattered(), 0.8, None),
        full("c/sparse", files, sparse, tree, 0.8, None),
    ]
}

/// Areas of `len` bytes, one at the beginning of every `stride`.
fn spread(capacity: u64, len: u64, stride: u64) -> Vec<Range<u64>> {
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

    fn share(content: &Content, capacity: u64) -> f64 {
        let bytes: u64 = match content {
            Content::Noise { areas, .. } => areas.iter().map(|it| it.end - it.start).sum(),
            Content::Files { bytes, .. } => *bytes,
        };
        #[expect(clippy::cast_precision_loss, reason = "a share of a few digits")]
        let share = bytes as f64 / capacity as f64;
        share
    }

    #[test]
    fn the_disks_hold_what_they_are_said_to() {
        for quick in [false, true] {
            for it in scenarios(quick) {
                let expected = match it.name.get(..1) {
                    Some("a") => 0.5,
                    Some("b") => 0.02,
                    _ => 0.8,
                };
                let share = share(&it.disk.content, it.disk.capacity);
                assert!((share - expected).abs() < 0.001, "{}: {share}", it.name);
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
