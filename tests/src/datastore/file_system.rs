//! A real ext4 file system in a file, made, changed and judged without mounting it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::noise;
use crate::tool;

/// Bytes of each file that [`FileSystem::make`] puts into a new file system.
const FILE: u64 = 4 << 20;

/// Files of one directory that [`FileSystem::make_of`] makes.
const TOGETHER: usize = 1000;

/// What a file takes is a multiple of this.
const BLOCK: u64 = 4096;

/// An ext4 file system that begins at byte 0 of a raw image.
#[derive(Clone, Debug)]
pub struct FileSystem {
    image: PathBuf,
}

impl FileSystem {
    /// The file system in an existing raw image.
    pub fn of(image: &Path) -> Self {
        Self { image: image.to_owned() }
    }

    /// Makes an image of `capacity` bytes whose file system holds `bytes` of noise in `/data`, and `/etc/hostname`.
    pub fn make(image: &Path, capacity: u64, name: &str, bytes: u64, seed: u64) -> Result<Self> {
        let tree = tempfile::tempdir_in(image.parent().context("an image lies in a directory")?)?;
        fs::create_dir(tree.path().join("etc"))?;
        fs::write(tree.path().join("etc/hostname"), format!("{name}\n"))?;
        fill(&tree.path().join("data"), bytes, seed)?;
        Self::from_tree(image, capacity, tree.path())
    }

    /// The same with copies of the files below `of`, in the order of their names, until `bytes` are taken; what is
    /// missing then is noise.
    pub fn make_of(image: &Path, capacity: u64, of: &Path, bytes: u64) -> Result<Self> {
        let tree = tempfile::tempdir_in(image.parent().context("an image lies in a directory")?)?;
        let mut left = bytes;
        let mut number = 0;
        let mut waiting = vec![of.to_owned()];
        while let Some(directory) = waiting.pop() {
            for path in in_order(&directory)? {
                let kind = fs::symlink_metadata(&path)?;
                let taken = kind.len().next_multiple_of(BLOCK);
                if kind.is_dir() {
                    waiting.push(path);
                } else if kind.is_file() && taken <= left {
                    let home = tree.path().join(format!("files-{}", number / TOGETHER));
                    fs::create_dir_all(&home)?;
                    copy(&path, &home.join(number.to_string()))?;
                    (left, number) = (left - taken, number + 1);
                }
            }
        }
        fill(&tree.path().join("data"), left, bytes)?;
        Self::from_tree(image, capacity, tree.path())
    }

    fn from_tree(image: &Path, capacity: u64, tree: &Path) -> Result<Self> {
        fs::File::create_new(image)?.set_len(capacity)?;
        let (tree, target) = (tree.display().to_string(), image.display().to_string());
        tool::run("mke2fs", &["-q", "-F", "-t", "ext4", "-L", "hub-test", "-d", &tree, &target])?;
        Ok(Self::of(image))
    }

    /// The raw image that it lies in.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Writes a file, in place of one of that name if there is one; its directory must exist.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let source = tempfile::NamedTempFile::new()?;
        fs::write(source.path(), bytes)?;
        if self.read(path).is_ok() {
            self.remove(path)?;
        }
        self.debugfs(true, &format!("write \"{}\" \"{path}\"", source.path().display()))?;
        let found = self.read(path)?;
        ensure!(found == bytes, "`{path}` was not written to {}", self.image.display());
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.debugfs(true, &format!("rm \"{path}\""))?;
        ensure!(self.read(path).is_err(), "`{path}` is still in {}", self.image.display());
        Ok(())
    }

    /// The bytes of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let place = tempfile::tempdir()?;
        let copy = place.path().join("copy");
        self.debugfs(false, &format!("dump \"{path}\" \"{}\"", copy.display()))?;
        fs::read(copy).with_context(|| format!("`{path}` is not in {}", self.image.display()))
    }

    /// Fails unless `e2fsck` finds nothing to repair.
    pub fn check(&self) -> Result<()> {
        tool::run("e2fsck", &["-f", "-n", &self.image.display().to_string()]).map(drop)
    }

    /// Runs one request; `debugfs` ends well even when the request fails, so callers look at the outcome.
    fn debugfs(&self, writes: bool, request: &str) -> Result<String> {
        let image = self.image.display().to_string();
        let mut arguments = vec!["-R", request, image.as_str()];
        if writes {
            arguments.insert(0, "-w");
        }
        tool::run("debugfs", &arguments)
    }
}

/// Files of noise in a new directory.
fn fill(directory: &Path, bytes: u64, seed: u64) -> Result<()> {
    fs::create_dir(directory)?;
    for number in 0..bytes.div_ceil(FILE) {
        let len = usize::try_from(FILE.min(bytes - number * FILE))?;
        let file = directory.join(format!("file-{number:04}.bin"));
        fs::write(file, noise(seed.wrapping_add(number), len))?;
    }
    Ok(())
}

/// What a directory holds, sorted by name; nothing where it may not be read.
fn in_order(directory: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut paths = entries.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// The same file under another name where the file system allows that, which costs nothing.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}
