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

/// What a disk keeps of the changes that no sync covers.
pub(crate) enum Loss<'a> {
    /// Anything, as the numbers fall.
    Random(Draw<'a>),
    /// Everything but what one place lacks a sync for.
    One {
        /// Where something is lost.
        place: Place,
        /// The only change there that is kept, if one is; the length of the file then, too.
        kept: Option<u64>,
    },
}

/// What a sync makes durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Content and length of a file.
    File(FileId),
    /// The names in a directory.
    Directory(PathBuf),
}

/// What a change is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Names,
    Length,
    Bytes,
}

/// How likely things are kept, in parts of 64.
pub(crate) struct Draw<'a> {
    seed: &'a mut Seed,
    names: usize,
    content: usize,
    /// Writes tear at multiples of this.
    unit: usize,
}

/// Longer than any file here: each write is kept whole or lost whole.
const WHOLE: usize = 1 << 40;

/// What a disk has after the cut.
#[derive(Default)]
struct Left {
    files: HashMap<FileId, Vec<u8>>,
    names: BTreeMap<PathBuf, FileId>,
    directories: BTreeSet<PathBuf>,
}

impl<'a> Loss<'a> {
    /// One by the next numbers of a seed.
    pub(crate) fn draw(seed: &'a mut Seed) -> Self {
        let content = [0, 0, 8, 32, 32, 56, 64][seed.below(7)];
        // A journal of names alone is what most file systems have: all names, and some of the bytes.
        let names = [content, 64][seed.below(2)];
        let unit = [512, 4096, WHOLE][seed.below(3)];
        Self::Random(Draw { seed, names, content, unit })
    }

    /// Where writes tear.
    const fn unit(&self) -> usize {
        match self {
            Self::Random(draw) => draw.unit,
            Self::One { .. } => WHOLE,
        }
    }

    /// Whether a change, or a piece of it, is on the disk though no sync covers it.
    fn keeps(&mut self, number: u64, at: &Place, of: Of) -> bool {
        match self {
            Self::Random(draw) => {
                let of_64 = if of == Of::Names { draw.names } else { draw.content };
                draw.seed.below(64) < of_64
            }
            Self::One { place, .. } if at != place => true,
            Self::One { kept: Some(kept), .. } => *kept == number || of == Of::Length,
            Self::One { kept: None, .. } => false,
        }
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

    /// The losses of one place each after so many steps: all that it lacks a sync for, and all but the last change.
    pub(crate) fn losses_of_one_place(&self, count: usize) -> Result<Vec<Loss<'static>>> {
        let synced = self.synced(count);
        let mut last = HashMap::new();
        for (number, step) in &self.steps[..count] {
            let Some(place) = place_of(step)? else { continue };
            if synced.get(&place).is_none_or(|synced| number > synced) {
                last.insert(place, *number);
            }
        }
        let both = |(place, last): (Place, u64)| {
            [None, Some(last)].map(|kept| Loss::One { place: place.clone(), kept })
        };
        Ok(last.into_iter().flat_map(both).collect())
    }

    /// When each place was last synced in the first steps.
    fn synced(&self, count: usize) -> HashMap<Place, u64> {
        let syncs = self.steps[..count].iter().filter_map(|(number, step)| match step {
            Step::Synced { file } => Some((Place::File(*file), *number)),
            Step::DirectorySynced { path } => Some((Place::Directory(path.clone()), *number)),
            _ => None,
        });
        syncs.collect()
    }

    /// Builds one of the directories that a cut after so many steps may leave.
    pub(crate) fn rebuild(&self, count: usize, loss: &mut Loss<'_>, into: &Path) -> Result<()> {
        let synced = self.synced(count);
        let mut left = Left::default();
        let mut names_now = BTreeMap::new();
        for (number, step) in &self.steps[..count] {
            let Some(place) = place_of(step)? else { continue };
            let durable = synced.get(&place).is_some_and(|synced| number < synced);
            let unit = loss.unit();
            let mut keeps = |of| durable || loss.keeps(*number, &place, of);
            match place {
                Place::Directory(_) => left.name(&mut names_now, step, keeps(Of::Names)),
                Place::File(_) => left.content(step, unit, &mut keeps)?,
            }
        }
        left.put(&self.root, into)
    }
}

/// Where a step changes something; nowhere if it is a sync or a mark.
fn place_of(step: &Step) -> Result<Option<Place>> {
    Ok(match step {
        Step::Created { path, .. }
        | Step::Renamed { to: path, .. }
        | Step::Removed { path }
        | Step::DirectoryMade { path } => {
            Some(Place::Directory(path.parent().context("a parent")?.to_owned()))
        }
        Step::Wrote { file, .. } | Step::Resized { file, .. } | Step::Cleared { file, .. } => {
            Some(Place::File(*file))
        }
        Step::Synced { .. } | Step::DirectorySynced { .. } | Step::Marked { .. } => None,
    })
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

    /// Changes the content of a file, piece by piece as far as it is kept.
    fn content(
        &mut self,
        step: &Step,
        unit: usize,
        keeps: &mut dyn FnMut(Of) -> bool,
    ) -> Result<()> {
        match step {
            Step::Wrote { file, offset, bytes } => {
                let content = self.files.entry(*file).or_default();
                let start = usize::try_from(*offset)?;
                // The length may be known although the bytes are lost.
                if keeps(Of::Length) {
                    content.resize(content.len().max(start + bytes.len()), 0);
                }
                let mut at = 0;
                while at < bytes.len() {
                    let next = ((start + at) / unit + 1) * unit - start;
                    let next = next.min(bytes.len());
                    if keeps(Of::Bytes) {
                        content.resize(content.len().max(start + next), 0);
                        content[start + at..start + next].copy_from_slice(&bytes[at..next]);
                    }
                    at = next;
                }
            }
            Step::Resized { file, len } if keeps(Of::Length) => {
                self.files.entry(*file).or_default().resize(usize::try_from(*len)?, 0);
            }
            Step::Cleared { file, offset, len } if keeps(Of::Bytes) => {
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
