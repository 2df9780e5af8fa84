//! Files that hold anything at all.

use std::path::Path;

use anyhow::Result;
use hub_block::BlockDevice;
use hub_data_mover::Manifest;
use hub_qcow2::{ImageReader, ImageUpdater, InsideDirectory, check_image};

/// Bytes of a disk that are read through an image; it may say that it is any size.
const READ: u32 = 64 * 1024;

/// Opens an image, reads at both ends and in the middle, asks for extents, checks it, opens it for an update.
pub fn image(data: &[u8]) -> Result<()> {
    let place = tempfile::tempdir()?;
    let path = place.path().join("image.qcow2");
    std::fs::write(&path, data)?;
    if let Ok(report) = check_image(&path) {
        assert!(report.errors.len() <= data.len() + 64, "findings are bounded");
    }
    if let Ok(image) = ImageReader::open_chain(&InsideDirectory::new(place.path()), &path) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(read_through(&image));
    }
    drop(ImageUpdater::open(&path));
    assert_eq!(std::fs::read(&path)?, data, "opening an image changes nothing");
    Ok(())
}

async fn read_through(image: &dyn BlockDevice) {
    let size = image.size();
    for at in [0, size / 2, size.saturating_sub(READ.into())] {
        let len = u32::try_from(size - at).unwrap_or(u32::MAX).min(READ);
        if let Ok(bytes) = image.read_at(at, len).await {
            assert_eq!(bytes.len(), len as usize);
        }
        if let Ok(extents) = image.extents(at, len.into()).await {
            let covered: u64 = extents.iter().map(|it| it.len).sum();
            assert_eq!(covered, u64::from(len), "extents cover what was asked for");
        }
    }
}

/// Where a manifest keeps the length of its header, and the digest of that header.
const HEADER_LEN: usize = 12;
const HEADER_DIGEST: std::ops::Range<usize> = 64..96;

/// Opens a manifest and checks its table; once as it is, once with a digest that matches whatever the header says.
pub fn manifest(data: &[u8]) -> Result<()> {
    let place = tempfile::tempdir()?;
    let path = place.path().join("point.manifest");
    std::fs::write(&path, data)?;
    open_manifest(&path);
    if let Some(sealed) = with_a_digest(data) {
        std::fs::write(&path, sealed)?;
        open_manifest(&path);
    }
    Ok(())
}

fn open_manifest(path: &Path) {
    let Ok(manifest) = Manifest::open(path) else { return };
    let table = manifest.table();
    assert_eq!(table.capacity(), manifest.identity().capacity_bytes);
    if manifest.check_table().is_ok() {
        assert!(table.root().is_ok_and(|root| root == manifest.root()));
    }
}

/// The same with the digest that a writer would have put there: a fuzzer does not find one by chance.
fn with_a_digest(data: &[u8]) -> Option<Vec<u8>> {
    let len: [u8; 4] = data.get(HEADER_LEN..HEADER_LEN + 4)?.try_into().ok()?;
    let header = data.get(..usize::try_from(u32::from_le_bytes(len)).ok()?)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(header.get(..HEADER_DIGEST.start)?).update(header.get(HEADER_DIGEST.end..)?);
    let mut sealed = data.to_vec();
    sealed.get_mut(HEADER_DIGEST)?.copy_from_slice(hasher.finalize().as_bytes());
    Some(sealed)
}

/// Parses the text of a descriptor.
#[cfg(feature = "vma")]
pub fn vmdk_descriptor(data: &[u8]) -> Result<()> {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(descriptor) = hub_vma_agent::vmdk::Descriptor::parse(text)
    {
        // It is a sum over lines that were checked, so it cannot fail.
        let _ = descriptor.capacity();
    }
    vmdk_file(data)
}

/// Opens a file as the top of a VMDK chain, a descriptor or a sparse extent with one inside, and reads through it.
#[cfg(feature = "vma")]
pub fn vmdk_file(data: &[u8]) -> Result<()> {
    use hub_vma_agent::vmdk::{Chain, Directory, VmdkDisk};

    let place = tempfile::tempdir()?;
    std::fs::write(place.path().join("disk.vmdk"), data)?;
    let directory = Directory::open(place.path())?;
    if let Ok(chain) = Chain::read(&directory, "disk.vmdk") {
        assert!(chain.capacity() <= 1 << 62);
        for layer in chain.layers() {
            let _ = layer.allocated();
        }
        // Its extents may be missing; that is an answer, too.
        if let Ok(disk) = VmdkDisk::open(&directory, &chain) {
            assert_eq!(disk.size(), chain.capacity());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(read_through(&disk));
        }
    }
    Ok(())
}

/// Parses a .vmx.
#[cfg(feature = "vma")]
pub fn vmx(data: &[u8]) -> Result<()> {
    if let Ok(vmx) = hub_vma_agent::vmx::Vmx::parse(data) {
        assert!(vmx.disks.len() <= 256, "a VM has few disks: {}", vmx.disks.len());
    }
    Ok(())
}
