//! One virtual disk: how it is stored, and writes to it as a guest would make them.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::{FileSystem, noise};
use crate::judge::Image;
use crate::{sparse, tool};

/// Bytes that are compared, and written when they differ, at a time.
const STEP: u64 = 64 * 1024;

/// A disk to make.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// Bytes; a multiple of 512.
    pub capacity: u64,
    /// How its base is stored.
    pub subformat: Subformat,
    /// What it holds.
    pub content: Content,
}

/// How qemu stores a VMDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subformat {
    /// A descriptor beside one file with the bytes as they are.
    MonolithicFlat,
    /// One file with grain tables.
    MonolithicSparse,
    /// Pieces of 2 GiB at most, with grain tables.
    TwoGbMaxExtentSparse,
    /// Compressed; can be written only once.
    StreamOptimized,
}

impl Subformat {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::MonolithicFlat,
        Self::MonolithicSparse,
        Self::TwoGbMaxExtentSparse,
        Self::StreamOptimized,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::MonolithicFlat => "monolithicFlat",
            Self::MonolithicSparse => "monolithicSparse",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::StreamOptimized => "streamOptimized",
        }
    }
}

/// What a new disk holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Noise in these byte ranges, holes elsewhere.
    Noise {
        /// What the noise is a function of.
        seed: u64,
        /// Where it lies.
        areas: Vec<Range<u64>>,
    },
    /// An ext4 file system with files, see [`FileSystem::make`].
    Files {
        /// Its `/etc/hostname`.
        name: String,
        /// Bytes of all files.
        bytes: u64,
        /// What they are a function of.
        seed: u64,
    },
    /// An ext4 file system with copies of real files, see [`FileSystem::make_of`].
    Copies {
        /// The directory that they come from.
        of: PathBuf,
        /// Bytes of all files; what the directory does not have is noise.
        bytes: u64,
    },
}

/// A disk of a VM: a base and the delta of each snapshot upon it.
#[derive(Debug)]
pub struct Disk {
    home: PathBuf,
    scratch: PathBuf,
    stem: String,
    capacity: u64,
    subformat: Subformat,
    /// Oldest first; never empty.
    layers: Vec<String>,
}

impl Disk {
    /// Makes `<stem>.vmdk` in the VM's directory.
    pub(super) fn create(home: &Path, scratch: &Path, stem: &str, spec: &DiskSpec) -> Result<Self> {
        let place = tempfile::tempdir_in(scratch)?;
        let raw = place.path().join("disk.raw");
        match &spec.content {
            Content::Noise { seed, areas } => {
                let file = fs::File::create_new(&raw)?;
                file.set_len(spec.capacity)?;
                for (number, area) in (0..).zip(areas) {
                    let bytes = noise(seed ^ number, usize::try_from(area.end - area.start)?);
                    file.write_all_at(&bytes, area.start)?;
                }
            }
            Content::Files { name, bytes, seed } => {
                FileSystem::make(&raw, spec.capacity, name, *bytes, *seed)?;
            }
            Content::Copies { of, bytes } => {
                FileSystem::make_of(&raw, spec.capacity, of, *bytes)?;
            }
        }
        let base = format!("{stem}.vmdk");
        let subformat = format!("subformat={}", spec.subformat.name());
        let raw = raw.display().to_string();
        let arguments = ["convert", "-f", "raw", "-O", "vmdk", "-o", &subformat, &raw, &base];
        tool::run_in(home, "qemu-img", &arguments)?;
        Ok(Self {
            home: home.to_owned(),
            scratch: scratch.to_owned(),
            stem: stem.to_owned(),
            capacity: spec.capacity,
            subformat: spec.subformat,
            layers: vec![base],
        })
    }

    /// Bytes that a guest sees.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The file that the .vmx names: what a running VM writes to.
    pub fn top(&self) -> PathBuf {
        self.home.join(self.top_name())
    }

    /// The file with the state of the newest snapshot; nothing without one.
    pub fn frozen(&self) -> Option<PathBuf> {
        let below = self.layers.len().checked_sub(2)?;
        self.layers.get(below).map(|name| self.home.join(name))
    }

    pub(super) fn top_name(&self) -> &str {
        self.layers.last().map_or("", String::as_str)
    }

    /// Puts a delta on top, which takes all writes from now on.
    pub(super) fn snapshot(&mut self) -> Result<()> {
        let delta = format!("{}-{:06}.vmdk", self.stem, self.layers.len());
        // Only a plain name beside the parent becomes a hint that a datastore would have.
        let arguments = ["create", "-f", "vmdk", "-b", self.top_name(), "-F", "vmdk", &delta];
        tool::run_in(&self.home, "qemu-img", &arguments)?;
        self.layers.push(delta);
        Ok(())
    }

    /// Writes as a guest does; offset and length are multiples of 512.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_all(&[(offset, bytes)])
    }

    /// Changes the disk as a whole: `change` gets a raw image, and what it alters is written to the disk.
    pub fn edit(&self, change: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if let Some(bytes) = self.bytes_file() {
            return change(&bytes);
        }
        let place = tempfile::tempdir_in(&self.scratch)?;
        let (before, after) = (place.path().join("before.raw"), place.path().join("after.raw"));
        let (top, raw) = (self.top().display().to_string(), before.display().to_string());
        tool::run("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", &top, &raw])?;
        tool::run("cp", &["--sparse=auto", &raw, &after.display().to_string()])?;
        change(&after)?;
        let changed = differences(&before, &after)?;
        let changed: Vec<_> = changed.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        self.write_all(&changed)
    }

    /// Several writes, each as [`Disk::write`] makes one.
    pub fn write_all(&self, writes: &[(u64, &[u8])]) -> Result<()> {
        for (offset, bytes) in writes {
            let len = u64::try_from(bytes.len())?;
            let aligned = offset % 512 == 0 && len % 512 == 0;
            ensure!(aligned && offset + len <= self.capacity, "no write at {offset} of {len}");
        }
        if let Some(file) = self.bytes_file() {
            let file = fs::File::options().write(true).open(file)?;
            for (offset, bytes) in writes {
                file.write_all_at(bytes, *offset)?;
            }
            return Ok(());
        }
        ensure!(
            self.layers.len() > 1 || self.subformat != Subformat::StreamOptimized,
            "a streamOptimized disk can be written only through a snapshot"
        );
        let place = tempfile::tempdir_in(&self.scratch)?;
        let mut arguments = vec!["-f".to_owned(), "vmdk".to_owned()];
        for (number, (offset, bytes)) in writes.iter().enumerate() {
            let piece = place.path().join(number.to_string());
            fs::write(&piece, bytes)?;
            let write = format!("write -s {} {offset} {}", piece.display(), bytes.len());
            arguments.extend(["-c".to_owned(), write]);
        }
        arguments.push(self.top().display().to_string());
        let said = tool::run("qemu-io", &arguments)?;
        let done = said.lines().filter(|line| line.starts_with("wrote ")).count();
        ensure!(done == writes.len(), "qemu-io did {done} of {} writes: {said}", writes.len());
        Ok(())
    }

    /// The file that holds the disk's bytes as they are, where there is one.
    fn bytes_file(&self) -> Option<PathBuf> {
        let flat = self.subformat == Subformat::MonolithicFlat && self.layers.len() == 1;
        flat.then(|| self.home.join(format!("{}-flat.vmdk", self.stem)))
    }

    /// Fails unless the newest state of this disk equals an image, byte for byte and in size.
    pub fn compare(&self, other: Image<'_>) -> Result<()> {
        Image::new(&self.top(), "vmdk").compare(other)
    }
}

/// The steps in which two files of one length differ, with the bytes of the second.
fn differences(before: &Path, after: &Path) -> Result<Vec<(u64, Vec<u8>)>> {
    let (before, after) = (fs::File::open(before)?, fs::File::open(after)?);
    let len = after.metadata()?.len();
    ensure!(before.metadata()?.len() == len, "a disk does not change its size by being written to");
    let mut steps = BTreeSet::new();
    for range in sparse::data_ranges(&before)?.into_iter().chain(sparse::data_ranges(&after)?) {
        steps.extend(range.start / STEP..range.end.div_ceil(STEP));
    }
    let mut found = Vec::new();
    for step in steps {
        let at = step * STEP;
        let size = usize::try_from(STEP.min(len - at))?;
        let (mut old, mut new) = (vec![0; size], vec![0; size]);
        before.read_exact_at(&mut old, at)?;
        after.read_exact_at(&mut new, at)?;
        if old != new {
            found.push((at, new));
        }
    }
    Ok(found)
}
