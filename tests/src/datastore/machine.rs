//! One VM of a datastore: its .vmx, its lock while it runs, and its snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::disk::{Disk, DiskSpec};

/// A VM to make.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// `displayName`; any text.
    pub name: String,
    /// Its directory below the datastore's root.
    pub folder: String,
    /// Its disks, on `scsi0` in this order.
    pub disks: Vec<DiskSpec>,
}

impl VmSpec {
    /// A VM whose folder has the VM's name.
    pub fn new(name: &str, disks: Vec<DiskSpec>) -> Self {
        Self { name: name.to_owned(), folder: name.to_owned(), disks }
    }
}

/// A VM that exists as files.
#[derive(Debug)]
pub struct VirtualMachine {
    name: String,
    uuid: String,
    home: PathBuf,
    vmx: PathBuf,
    disks: Vec<Disk>,
}

impl VirtualMachine {
    pub(super) fn create(home: PathBuf, scratch: &Path, spec: &VmSpec) -> Result<Self> {
        let stem = stem_of(&spec.folder);
        let disks = spec.disks.iter().enumerate().map(|(number, disk)| {
            let stem = if number == 0 { stem.clone() } else { format!("{stem}_{number}") };
            Disk::create(&home, scratch, &stem, disk)
        });
        let machine = Self {
            name: spec.name.clone(),
            uuid: uuid_of(&spec.folder),
            vmx: home.join(format!("{stem}.vmx")),
            disks: disks.collect::<Result<_>>()?,
            home,
        };
        machine.write_vmx()?;
        Ok(machine)
    }

    /// `displayName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its .vmx file, for tests that break it.
    pub fn vmx(&self) -> &Path {
        &self.vmx
    }

    /// The disk with this ordinal.
    pub fn disk(&self, ordinal: usize) -> Result<&Disk> {
        self.disks.get(ordinal).with_context(|| format!("{} has no disk {ordinal}", self.name))
    }

    /// Its disks, by ordinal.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Takes a snapshot of all disks.
    pub fn snapshot(&mut self) -> Result<()> {
        for disk in &mut self.disks {
            disk.snapshot()?;
        }
        self.write_vmx()
    }

    /// Leaves the lock of a running VM.
    pub fn power_on(&self) -> Result<()> {
        Ok(fs::create_dir_all(self.lock())?)
    }

    /// Takes the lock away.
    pub fn power_off(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.lock())?)
    }

    fn lock(&self) -> PathBuf {
        self.vmx.with_extension("vmx.lck")
    }

    fn write_vmx(&self) -> Result<()> {
        let (name, uuid) = (escaped(&self.name), &self.uuid);
        let mut text = format!(
            ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"15\"\n\
             displayName = \"{name}\"\nguestOS = \"ubuntu-64\"\nnumvcpus = \"4\"\nmemSize = \"8192\"\n\
             uuid.bios = \"{uuid}\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\n\
             ethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"vmxnet3\"\n\
             ethernet0.networkName = \"VM Network\"\n"
        );
        // Unit 7 is the controller's own.
        let units = (0..).filter(|unit| *unit != 7);
        for (unit, disk) in units.zip(&self.disks) {
            let top = disk.top_name();
            text.push_str(&format!(
                "scsi0:{unit}.present = \"TRUE\"\nscsi0:{unit}.deviceType = \"scsi-hardDisk\"\n\
                 scsi0:{unit}.fileName = \"{top}\"\n"
            ));
        }
        fs::write(&self.vmx, text).with_context(|| self.vmx.display().to_string())
    }
}

/// The bytes that end a value are written as `|XX`, as the hypervisor does.
fn escaped(text: &str) -> String {
    text.replace('|', "|7C").replace('"', "|22").replace('\n', "|0A")
}

/// A UUID that is the folder's alone, spelled as a .vmx spells it.
fn uuid_of(folder: &str) -> String {
    let digest = blake3::hash(folder.as_bytes());
    let pairs: Vec<_> =
        digest.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let (front, back) = pairs.split_at(8);
    format!("{}-{}", front.join(" "), back.join(" "))
}

/// File names stay plain and short whatever the folder is called.
fn stem_of(folder: &str) -> String {
    let last = folder.rsplit('/').next().unwrap_or(folder);
    let plain = last.chars().take(40);
    plain.map(|it| if it.is_ascii_alphanumeric() || it == '-' { it } else { '_' }).collect()
}
