//! The tools that do the same work without us, and how each is called; decided without running anything.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What `convert` is tuned with; qemu's cache mode `none` makes every write direct and ends with a flush.
const TUNED: [&str; 5] = ["-W", "-m", "16", "-t", "none"];

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
    /// `qemu-img convert -c` with zstd.
    Compress,
    /// The same, out of order, 16 requests.
    CompressTuned,
    /// `qemu-img convert -B`, source by NBD: it copies all, because the export has no layers.
    Overlay,
    /// The same, tuned as [`Peer::ConvertTuned`].
    OverlayTuned,
    /// `qemu-img convert -B` that opens the snapshot chain itself, and copies its top layer.
    OverlayLocal,
}

/// The disk that a peer copies, and what it may need for that.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The URI of the server of the source.
    pub(super) from: String,
    /// The source's own file.
    pub(super) local: PathBuf,
    pub(super) capacity: u64,
    /// An image of an earlier state.
    pub(super) base: PathBuf,
    pub(super) target: PathBuf,
    /// The URI of the server of the target, where the peer needs one.
    pub(super) to: Option<String>,
}

/// A program and its arguments.
pub(super) type Call = (&'static str, Vec<String>);

impl Peer {
    /// Those that make a full copy.
    pub(super) const FULL: [Self; 4] =
        [Self::Convert, Self::ConvertTuned, Self::NbdCopy, Self::NbdCopyTuned];

    /// Those that make a full copy of each of many disks.
    pub(super) const MANY: [Self; 3] = [Self::Convert, Self::ConvertTuned, Self::NbdCopyTuned];

    /// Those that make a compressed copy.
    pub(super) const COMPRESSED: [Self; 2] = [Self::Compress, Self::CompressTuned];

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
            Self::Compress => "convert -c zstd",
            Self::CompressTuned => "convert -c zstd tuned",
            Self::Overlay => "convert -B",
            Self::OverlayTuned => "convert -B tuned",
            Self::OverlayLocal => "convert -B, top layer, no NBD",
        }
    }

    /// Whether it is used better than by default.
    pub(super) const fn is_tuned(self) -> bool {
        match self {
            Self::ConvertTuned
            | Self::NbdCopyTuned
            | Self::CompressTuned
            | Self::OverlayTuned
            | Self::OverlayLocal => true,
            Self::Convert | Self::NbdCopy | Self::Compress | Self::Overlay => false,
        }
    }

    /// Whether it writes through a server of the target; then the cache that the server is started with.
    pub(super) const fn target_cache(self) -> Option<&'static str> {
        match self {
            Self::NbdCopy => Some("--cache=writeback"),
            Self::NbdCopyTuned => Some("--cache=none"),
            Self::Convert
            | Self::ConvertTuned
            | Self::Compress
            | Self::CompressTuned
            | Self::Overlay
            | Self::OverlayTuned
            | Self::OverlayLocal => None,
        }
    }

    /// What is called within its time, one after the other.
    pub(super) fn calls(self, task: &Task) -> Result<Vec<Call>> {
        let (target, base, local) = (text(&task.target)?, text(&task.base)?, text(&task.local)?);
        let (from, to) = (task.from.as_str(), task.to.as_deref().unwrap_or_default());
        let capacity = task.capacity.to_string();
        let qemu_img = |arguments: &[&[&str]]| ("qemu-img", owned(&arguments.concat()));
        let overlay = ["-O", "qcow2", "-B", base, "-F", "qcow2"];
        let compress = ["-O", "qcow2", "-c", "-o", "compression_type=zstd"];
        let ends = [from, target];
        Ok(match self {
            Self::Convert => {
                vec![qemu_img(&[&["convert", "-f", "raw", "-O", "qcow2"], &ends])]
            }
            Self::ConvertTuned => {
                let made = ["-n", "--target-is-zero", "-f", "raw", "-O", "qcow2"];
                vec![
                    qemu_img(&[&["create", "-q", "-f", "qcow2", target, &capacity]]),
                    qemu_img(&[&["convert"], &TUNED, &made, &ends]),
                ]
            }
            Self::NbdCopy => vec![("nbdcopy", owned(&["--flush", from, to]))],
            Self::NbdCopyTuned => {
                let options = ["--connections=4", "--requests=16", "--request-size=1048576"];
                let flags = ["--destination-is-zero", "--flush", from, to];
                vec![("nbdcopy", owned(&[options.as_slice(), &flags].concat()))]
            }
            Self::Compress => vec![qemu_img(&[&["convert", "-f", "raw"], &compress, &ends])],
            Self::CompressTuned => {
                vec![qemu_img(&[&["convert", "-f", "raw", "-W", "-m", "16"], &compress, &ends])]
            }
            Self::Overlay => vec![qemu_img(&[&["convert", "-f", "raw"], &overlay, &ends])],
            Self::OverlayTuned => {
                vec![qemu_img(&[&["convert", "-f", "raw"], &TUNED, &overlay, &ends])]
            }
            Self::OverlayLocal => {
                vec![qemu_img(&[&["convert", "-f", "vmdk"], &TUNED, &overlay, &[local, target]])]
            }
        })
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&it| it.to_owned()).collect()
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_peer_writes_past_the_page_cache_into_a_made_image() {
        let task = Task {
            from: "nbd+unix:///?socket=s".to_owned(),
            local: "disk.vmdk".into(),
            capacity: 4096,
            base: "base".into(),
            target: "target".into(),
            to: None,
        };
        let calls = Peer::ConvertTuned.calls(&task).unwrap();
        let spoken: Vec<_> = calls.iter().map(|it| it.1.join(" ")).collect();
        assert_eq!(
            spoken,
            [
                "create -q -f qcow2 target 4096",
                "convert -W -m 16 -t none -n --target-is-zero -f raw -O qcow2 \
                 nbd+unix:///?socket=s target",
            ]
        );
    }
}
