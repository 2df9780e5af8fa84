//! Folders laid out like a VMware datastore, with VMs that run, stop, write and take snapshots.

mod disk;
mod file_system;
mod machine;
mod noise;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

pub use disk::{Content, Disk, DiskSpec, Subformat};
pub use file_system::FileSystem;
pub use machine::{VirtualMachine, VmSpec};
pub use noise::noise;

/// A directory whose subdirectories hold VMs; its name is the datastore's name in paths.
#[derive(Debug)]
pub struct Datastore {
    root: PathBuf,
    scratch: PathBuf,
}

impl Datastore {
    /// Makes an empty datastore of this name, and beside it a place for half-made disks.
    pub fn create(parent: &Path, name: &str) -> Result<Self> {
        let root = parent.join(name);
        let scratch = parent.join(format!("{name}-scratch"));
        for directory in [&root, &scratch] {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(Self { root, scratch })
    }

    /// The directory that a VMA is given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a VM with its disks, switched off and without a snapshot.
    pub fn add_vm(&self, spec: &VmSpec) -> Result<VirtualMachine> {
        let home = self.root.join(&spec.folder);
        ensure!(!home.exists(), "the datastore has a folder `{}` already", spec.folder);
        fs::create_dir_all(&home)?;
        VirtualMachine::create(home, &self.scratch, spec)
    }
}
