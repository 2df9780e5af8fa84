//! A disk without power: what may be left of files and names when everything that no sync covered can be
//! lost, torn or reordered.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks at the few steps that concern it"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hub_block::trail::{FileId, Step};

use super::seed::Seed;

/// Everything that was done below a directory, from its beginning.
pub(crate) struct PowerCut {
    pub(crate) root: PathBuf,
    pub(crate) steps: Vec<(u64, Step)>,
}

/// How a disk loses what was not synced.
struct Loss {
    /// So many of 64 things are kept.
    kept: usize,
    /// Writes tear at multiples of this.
    unit: usize,
}

/// What a disk has after the cut.
#[derive(Default)]
struct Left {
    files: HashMap<FileId, Vec<u8>>,
    names: BTreeMap<PathBuf, FileId>,
    directories: BTreeSet<PathBuf>,
}

impl Loss {
    fn draw(seed: &mut Seed) -> Self {
        let kept = [0, 0, 8, 32, 32, 56, 64][seed.below(7)];
        Self { kept, unit: [512, 4096][seed.below(2)] }
    }

    fn keeps(&self, seed: &mut Seed) -> bool {
        seed.below(64) < self.kept
    }
}

impl PowerCut {
    /// What the test has marked in the first steps.
    pub(crate) fn marks(&self, count: usize) -> impl Iterator<Item = &str> {
        self.steps[..count].iter().filter_map(|(_, step)| match step {
            Step::Marked { what } => Some(what.as_str()),
            _ => None,
        })
    }

    /// Builds one of the directories that a cut after so many steps may leave.
    pub(crate) fn rebuild(&self, count: usize, seed: &mut Seed, into: &Path) -> Result<()> {
        let steps = &self.steps[..count];
        let loss = Loss::draw(seed);
        let (mut files, mut directories) = (HashMap::new(), HashMap::new());
        for (number, step) in steps {
            match step {
                Step::Synced { file } => drop(files.insert(*file, *number)),
                Step::DirectorySynced { path } => drop(directories.insert(path.clone(), *number)),
                _ => (),
            }
        }
        let mut left = Left::default();
        let mut names_now = BTreeMap::new();
        for (number, step) in steps {
            let before = |synced: Option<&u64>| synced.is_some_and(|synced| number < synced);
            match step {
                Step::Created { path, .. }
                | Step::Renamed { to: path, .. }
                | Step::Removed { path }
                | Step::DirectoryMade { path } => {
                    let durable = before(directories.get(path.parent().context("a parent")?));
                    let kept = durable || loss.keeps(seed);
                    left.name(&mut names_now, step, kept);
                }
                Step::Wrote { file, .. }
                | Step::Resized { file, .. }
                | Step::Cleared { file, .. } => {
                    left.content(step, before(files.get(file)), &loss, seed)?;
                }
                Step::Synced { .. } | Step::DirectorySynced { .. } | Step::Marked { .. } => (),
            }
        }
        left.put(&self.root, into)
    }
}

impl Left {
    /// Changes a name, if it is kept; what the name means now is known in any case.
    fn name(&mut self, now: &mut BTreeMap<PathBuf, FileId>, step: &Step, kept: bool) {
        match step {
            Step::Created { file, path } => {
                now.insert(path.clone(), *file);
                self.files.entry(*file).or_default();
                if kept {
                    self.names.insert(path.clone(), *file);
                }
            }
            Step::Renamed { from, to } => {
                let Some(file) = now.remove(from) else { return };
                now.insert(to.clone(), file);
                if kept {
                    self.names.retain(|name, it| name != from || *it != file);
                    self.names.insert(to.clone(), file);
                }
            }
            Step::Removed { path } => {
                let file = now.remove(path);
                if kept {
                    self.names.retain(|name, it| name != path || Some(*it) != file);
                }
            }
            Step::DirectoryMade { path } if kept => drop(self.directories.insert(path.clone())),
            _ => (),
        }
    }

    /// Changes the content of a file: as a whole if a sync covers it, else as the disk likes.
    fn content(&mut self, step: &Step, durable: bool, loss: &Loss, seed: &mut Seed) -> Result<()> {
        match step {
            Step::Wrote { file, offset, bytes } => {
                let content = self.files.entry(*file).or_default();
                let start = usize::try_from(*offset)?;
                // The length may be known although the bytes are lost.
                if durable || loss.keeps(seed) {
                    content.resize(content.len().max(start + bytes.len()), 0);
                }
                let mut at = 0;
                while at < bytes.len() {
                    let next = ((start + at) / loss.unit + 1) * loss.unit - start;
                    let next = next.min(bytes.len());
                    if durable || loss.keeps(seed) {
                        content.resize(content.len().max(start + next), 0);
                        content[start + at..start + next].copy_from_slice(&bytes[at..next]);
                    }
                    at = next;
                }
            }
            Step::Resized { file, len } if durable || loss.keeps(seed) => {
                self.files.entry(*file).or_default().resize(usize::try_from(*len)?, 0);
            }
            Step::Cleared { file, offset, len } if durable || loss.keeps(seed) => {
                let content = self.files.entry(*file).or_default();
                let end = content.len().min(usize::try_from(offset + len)?);
                content[usize::try_from(*offset)?.min(end)..end].fill(0);
            }
            _ => (),
        }
        Ok(())
    }

    fn put(&self, root: &Path, into: &Path) -> Result<()> {
        let place = |path: &Path| Ok::<_, anyhow::Error>(into.join(path.strip_prefix(root)?));
        for directory in &self.directories {
            // One whose parent is lost is lost with it.
            let _ = std::fs::create_dir(place(directory)?);
        }
        for (name, file) in &self.names {
            let path = place(name)?;
            if path.parent().is_some_and(Path::is_dir) {
                std::fs::write(path, self.files.get(file).context("a file of the trail")?)?;
            }
        }
        Ok(())
    }
}
