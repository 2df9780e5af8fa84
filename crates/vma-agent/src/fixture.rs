//! Datastores made for tests, with disks made by qemu or by hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hub_block::BlockDevice;

use crate::folder::{FolderOptions, FolderSource};
use crate::source::{AskedDisk, OpenRequest};

/// Bytes of the disks that tests use, unless they say otherwise.
pub(crate) const DISK: u64 = 4 << 20;

/// A datastore in a directory that ends with the test.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("datastore1"))?;
        Ok(Self { folder })
    }

    /// A source over the datastore.
    pub(crate) fn source(&self) -> Result<FolderSource> {
        let options = FolderOptions { name: "lab".to_owned(), datastores: vec![self.root()] };
        Ok(FolderSource::new(options)?)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("datastore1")
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside)
    }

    /// Waits until the time that files are given has gone on: many systems count it in steps of milliseconds, and what
    /// is written twice within one of them looks as if it had been written once.
    pub(crate) fn time_goes_on(&self) -> Result<()> {
        let probe = self.folder.path().join("probe");
        let written = || -> Result<_> {
            std::fs::write(&probe, "x")?;
            Ok(std::fs::metadata(&probe)?.modified()?)
        };
        let before = written()?;
        while written()? == before {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// A VM directory with a .vmx of these lines.
    pub(crate) fn vm(&self, directory: &str, lines: &str) -> Result<PathBuf> {
        let home = self.path(directory);
        std::fs::create_dir_all(&home)?;
        let text = format!(".encoding = \"UTF-8\"\nvirtualHW.version = \"15\"\n{lines}\n");
        std::fs::write(home.join("vm.vmx"), text)?;
        Ok(home)
    }

    /// A VM with disks on `scsi0`, each flat, made by hand and filled with a byte.
    pub(crate) fn flat_vm(&self, directory: &str, name: &str, fill: &[u8]) -> Result<PathBuf> {
        let mut lines = format!("displayName = \"{name}\"\n");
        for unit in 0..fill.len() {
            lines.push_str(&format!("scsi0:{unit}.fileName = \"disk{unit}.vmdk\"\n"));
        }
        let home = self.vm(directory, &lines)?;
        for (unit, byte) in fill.iter().enumerate() {
            std::fs::write(home.join(format!("disk{unit}-flat.vmdk")), content(*byte))?;
            let extent = format!("RW {} VMFS \"disk{unit}-flat.vmdk\"", DISK / 512);
            std::fs::write(home.join(format!("disk{unit}.vmdk")), descriptor("vmfs", &extent))?;
        }
        Ok(home)
    }
}

/// The text of a descriptor without a parent.
pub(crate) fn descriptor(create_type: &str, extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=3\nCID=12345678\nparentCID=ffffffff\ncreateType=\"{create_type}\"\n# Extent description\n{extents}\n"
    )
}

/// A delta as ESXi writes it on VMFS: header, grain directory, one grain table, and one grain of 512 bytes.
///
/// All numbers are little-endian and of 4 bytes; offsets and sizes are in sectors.
pub(crate) fn cowd(byte: u8) -> Vec<u8> {
    let sectors = u32::try_from(DISK / 512).unwrap_or(0);
    let mut file = b"COWD".to_vec();
    for field in [1, 3, sectors, 1, 4, sectors.div_ceil(4096), 41] {
        file.extend(u32::to_le_bytes(field));
    }
    file.resize(4 * 512, 0);
    file.extend(8_u32.to_le_bytes());
    file.resize(8 * 512, 0);
    file.extend([0; 4 * 6]);
    file.extend(40_u32.to_le_bytes());
    file.resize(40 * 512, 0);
    file.extend([byte; 512]);
    file
}

/// A disk with three stretches of data and holes between them.
pub(crate) fn content(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(DISK).unwrap_or_default()];
    for (start, len) in [(0, 70_000), (1 << 20, 300_000), ((4 << 20) - 65_536, 65_536)] {
        for (at, byte) in bytes.iter_mut().enumerate().skip(start).take(len) {
            *byte = at.to_le_bytes().iter().fold(seed | 1, |sum, it| sum.rotate_left(3) ^ it);
        }
    }
    bytes
}

/// The request to open disks of a VM, all of the size [`DISK`].
pub(crate) fn asking(vm_id: &str, keys: &[&str]) -> OpenRequest {
    let disk = |key: &&str| AskedDisk {
        key: (*key).to_owned(),
        capacity_bytes: DISK,
        backing_uuid: None,
        grown: false,
    };
    OpenRequest {
        job_id: "job-1".to_owned(),
        vm_id: vm_id.to_owned(),
        vcenter_uuid: None,
        credentials: None,
        disks: keys.iter().map(disk).collect(),
        quiesce: None,
    }
}

/// All bytes of a device.
pub(crate) async fn bytes_of(device: &Arc<dyn BlockDevice>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < device.size() {
        let at = bytes.len() as u64;
        let step = u32::try_from((device.size() - at).min(1 << 20))?;
        bytes.extend_from_slice(&device.read_at(at, step).await?);
    }
    Ok(bytes)
}

/// Runs a program of qemu in a directory.
pub(crate) fn qemu(program: &str, directory: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).current_dir(directory).args(arguments).output();
    let output = output.with_context(|| format!("{program} cannot be started"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {words}");
    Ok(())
}

/// Whether the tools are there; a missing one is said aloud, and fails the test where they are required.
pub(crate) fn has_qemu() -> Result<bool> {
    for tool in ["qemu-img", "qemu-io"] {
        if Command::new(tool).arg("--version").output().is_err() {
            ensure!(std::env::var_os("HUB_TEST_REQUIRE").is_none(), "{tool} is required");
            eprintln!("SKIPPED: {tool} is not installed");
            return Ok(false);
        }
    }
    Ok(true)
}
