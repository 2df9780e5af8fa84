//! Disks on disk: written by hand, read by qemu and by us, compared with a model.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use hub_block::BlockDevice;

use super::made::{Kind, Made, SECTOR};
use crate::fixture::{bytes_of, qemu};
use crate::vmdk::{Chain, Directory, VmdkDisk};

/// Writes the layers of a disk, oldest first, beside each other; the newest is `d.vmdk`.
pub(super) fn write_chain(folder: &Path, layers: &[Made]) -> Result<Vec<u8>> {
    let mut disk = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let name =
            if number + 1 == layers.len() { "d.vmdk".to_owned() } else { format!("{number}.vmdk") };
        let parent = match number {
            0 => "parentCID=ffffffff".to_owned(),
            _ => format!("parentCID=0000000{0}\nparentFileNameHint=\"{0}.vmdk\"", number - 1),
        };
        let (kind, extent) = match layer.kind {
            Kind::Hosted { .. } => ("twoGbMaxExtentSparse", format!("{number}-extent.vmdk")),
            Kind::Stream { .. } => ("streamOptimized", name.clone()),
            Kind::Cowd { .. } => ("vmfsSparse", format!("{number}-extent.vmdk")),
            Kind::SeSparse => ("seSparse", format!("{number}-extent.vmdk")),
        };
        let (sectors, line) = (layer.sectors, layer.line_type());
        // A blank line before an extent's would make qemu read it twice.
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=0000000{number}\n{parent}\ncreateType=\"{kind}\"\n# Extent description\nRW {sectors} {line} \"{extent}\"\n"
        );
        std::fs::write(folder.join(&name), &text)?;
        std::fs::write(folder.join(&extent), layer.file(&text)?)?;
        disk.resize(usize::try_from(sectors * SECTOR)?, 0);
        layer.apply(&mut disk)?;
    }
    Ok(disk)
}

/// Opens `d.vmdk` in a directory.
pub(super) fn open(folder: &Path) -> Result<Arc<dyn BlockDevice>> {
    Ok(Arc::new(open_disk(folder)?))
}

pub(super) fn open_disk(folder: &Path) -> Result<VmdkDisk> {
    let directory = Directory::open(folder)?;
    let chain = Chain::read(&directory, "d.vmdk")?;
    Ok(VmdkDisk::open(&directory, &chain)?)
}

/// Whether qemu reads from `d.vmdk` what the disk has to hold.
pub(super) fn check_with_qemu(folder: &Path, disk: &[u8]) -> Result<()> {
    qemu("qemu-img", folder, &["convert", "-f", "vmdk", "-O", "raw", "d.vmdk", "qemu.raw"])?;
    same(&std::fs::read(folder.join("qemu.raw"))?, disk)
}

/// Names the first byte that differs.
pub(super) fn same(read: &[u8], disk: &[u8]) -> Result<()> {
    if read == disk {
        return Ok(());
    }
    ensure!(read.len() == disk.len(), "{} bytes, {} expected", read.len(), disk.len());
    let differs = read.iter().zip(disk).position(|(read, expected)| read != expected);
    differs.map_or(Ok(()), |at| Err(anyhow::anyhow!("byte {at} differs")))
}

/// Reads `d.vmdk` with our reader, whole and in odd pieces, both ways, and compares with what it has to hold.
pub(super) async fn check(folder: &Path, disk: &[u8]) -> Result<()> {
    let device = open(folder)?;
    ensure!(device.size() == disk.len() as u64, "the size differs");
    same(&bytes_of(&device).await?, disk)?;
    let now = device.clone().blocking().context("no face for threads that may block")?;
    let mut at = 1;
    while at < disk.len() {
        let len = (at * 31 % 70_001).clamp(1, disk.len() - at);
        let read = device.read_at(at as u64, u32::try_from(len)?).await?;
        ensure!(read == disk[at..at + len], "{len} bytes at {at} differ");
        let read = now.read_now(at as u64, u32::try_from(len)?).context("it waits")??;
        ensure!(read == disk[at..at + len], "{len} bytes at {at} differ when read at once");
        at += len + disk.len() / 50;
    }
    check_extents(&device, disk).await
}

/// Extents cover every range exactly, and what they call zero is zero.
pub(super) async fn check_extents(device: &Arc<dyn BlockDevice>, disk: &[u8]) -> Result<()> {
    let size = device.size();
    for (start, len) in [(0, size), (size / 3 + 1, size / 2), (size - 1, 1), (0, 0)] {
        let mut at = start;
        for extent in device.extents(start, len).await? {
            ensure!(extent.offset == at && extent.len > 0, "a gap before {at}");
            at = extent.end();
            let bytes = &disk[usize::try_from(extent.offset)?..usize::try_from(at)?];
            let zero = extent.kind == hub_block::ExtentKind::Zero;
            ensure!(
                !zero || bytes.iter().all(|it| *it == 0),
                "data at {} called zero",
                extent.offset
            );
        }
        ensure!(at == start + len, "extents end at {at}");
    }
    Ok(())
}
