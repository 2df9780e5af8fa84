//! A datastore of many small VMs: three flat disks each, made without qemu because nothing is ever read from them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Sectors of each disk.
const SECTORS: u64 = 2_097_152;

/// Makes `count` VMs below `root`.
pub(crate) fn make(root: &Path, count: usize) -> Result<()> {
    for number in 0..count {
        let home = home(root, number);
        fs::create_dir_all(&home)?;
        let mut vmx = format!(
            ".encoding = \"UTF-8\"\ndisplayName = \"bench-{number:05}\"\nguestOS = \"ubuntu-64\"\n\
             numvcpus = \"2\"\nmemSize = \"4096\"\n\
             uuid.bios = \"56 4d 00 00 00 00 00 00-00 00 00 00 {:02x} {:02x} {:02x} {:02x}\"\n\
             scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\n",
            number >> 24 & 255,
            number >> 16 & 255,
            number >> 8 & 255,
            number & 255,
        );
        for disk in 0..3 {
            vmx.push_str(&format!(
                "scsi0:{disk}.present = \"TRUE\"\nscsi0:{disk}.fileName = \"disk{disk}.vmdk\"\n"
            ));
            write_disk(&home, disk, SECTORS)?;
        }
        fs::write(home.join(format!("bench-{number:05}.vmx")), vmx)?;
    }
    Ok(())
}

/// Grows one disk in a hundred, as the second discovery shall find it; returns how many.
pub(crate) fn grow_some(root: &Path, count: usize) -> Result<usize> {
    let mut grown = 0;
    for index in (0..count * 3).step_by(100) {
        write_disk(&home(root, index / 3), index % 3, SECTORS * 2)?;
        grown += 1;
    }
    Ok(grown)
}

fn home(root: &Path, number: usize) -> PathBuf {
    root.join(format!("bench-{number:05}"))
}

fn write_disk(home: &Path, disk: usize, sectors: u64) -> Result<()> {
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\n\
         RW {sectors} VMFS \"disk{disk}-flat.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n"
    );
    fs::write(home.join(format!("disk{disk}.vmdk")), descriptor)?;
    let flat = home.join(format!("disk{disk}-flat.vmdk"));
    Ok(File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(flat)?
        .set_len(sectors * 512)?)
}
