//! One VM of a folder: its .vmx, its identity, and whether it runs.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hub_vma_api::Warning;

use super::walk::VmxFile;
use crate::vmdk::Datastore;
use crate::vmx::{MAX_VMX_LEN, Vmx};

/// A VM whose .vmx was read.
#[derive(Clone, Debug)]
pub(super) struct FolderVm {
    /// Stable over renames where the .vmx has a UUID.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) store: Datastore,
    /// The directory that the .vmx lies in.
    pub(super) home: PathBuf,
    pub(super) power: Power,
    pub(super) vmx: Vmx,
    path: PathBuf,
}

/// Whether a VM writes to its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
    Suspended,
}

impl Power {
    /// The word for it on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::On => "poweredOn",
            Self::Off => "poweredOff",
            Self::Suspended => "suspended",
        }
    }
}

impl FolderVm {
    /// Reads a .vmx; what is wrong with it becomes a warning.
    pub(super) fn read(file: &VmxFile) -> Result<Self, Warning> {
        let warn = |detail: String| Warning { subject: file.store.label(&file.path), detail };
        let bytes =
            read_bounded(&file.path).map_err(|it| warn(format!("it cannot be read: {it}")))?;
        let vmx = Vmx::parse(&bytes).map_err(|it| warn(it.to_string()))?;
        let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
        let home = file.path.parent().unwrap_or(Path::new("/")).to_owned();
        let power = if file.locked {
            Power::On
        } else if is_suspended(&home, &vmx) {
            Power::Suspended
        } else {
            Power::Off
        };
        Ok(Self {
            id: vmx.uuid.clone().unwrap_or_else(|| path_id(&file.store, &file.path)),
            name: vmx.display_name.clone().unwrap_or_else(|| stem.into_owned()),
            store: file.store.clone(),
            home,
            power,
            vmx,
            path: file.path.clone(),
        })
    }

    /// Its .vmx as the hypervisor writes paths.
    pub(super) fn label(&self) -> String {
        self.store.label(&self.path)
    }

    /// Why it is not listed; the subject is its name, by which a user asks for it.
    pub(super) fn warning(&self, detail: &str) -> Warning {
        Warning { subject: self.name.clone(), detail: format!("{}: {detail}", self.label()) }
    }

    /// Its directory below the datastore's root.
    pub(super) fn directory(&self) -> String {
        let inside = self.home.strip_prefix(self.store.root()).unwrap_or(&self.home);
        inside.display().to_string()
    }
}

/// The id of a VM without a UUID: it holds as long as the VM is not moved.
fn path_id(store: &Datastore, path: &Path) -> String {
    let digest = blake3::hash(store.label(path).as_bytes()).to_hex();
    format!("path-{}", digest.get(..32).unwrap_or_default())
}

fn is_suspended(home: &Path, vmx: &Vmx) -> bool {
    vmx.suspend_file.as_deref().is_some_and(|file| {
        let plain = Path::new(file).file_name().is_some_and(|it| it == file);
        plain && file.ends_with(".vmss") && home.join(file).is_file()
    })
}

/// Reads one byte more than is allowed at most, so that the parser sees that there is more.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_VMX_LEN + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
