//! The beginning of a .vmdk file: a text, or the header of a sparse extent with a text behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::VmdkError;
use super::descriptor::SECTOR;

/// The longest descriptor file that is read, in bytes; qemu reads no more either.
pub const MAX_TEXT: u64 = 1 << 20;

/// Where qemu and the hypervisor expect an embedded descriptor, and how long it may be, in sectors.
const EMBEDDED_START: u64 = 1;
const EMBEDDED_SECTORS: u64 = 20;

/// The header fields of a hosted sparse extent (`KDMV`) that matter before qemu opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SparseHeader {
    /// In sectors.
    pub(super) capacity: u64,
    descriptor_start: u64,
    descriptor_sectors: u64,
}

impl SparseHeader {
    /// Parses the first bytes of a file; nothing when it is of another kind.
    ///
    /// Layout (little-endian): magic, version and flags of 4 bytes, capacity, grain size, descriptor offset and
    /// descriptor size of 8 bytes each, the last four in sectors.
    pub(super) fn parse(head: &[u8]) -> Result<Option<Self>, VmdkError> {
        if !head.starts_with(b"KDMV") {
            return Ok(None);
        }
        let (Some(version), Some(capacity), Some(descriptor_start), Some(descriptor_sectors)) =
            (word(head, 4), long(head, 12), long(head, 28), long(head, 36))
        else {
            return Err(VmdkError::NotADescriptor("it ends within its header"));
        };
        if !(1..=3).contains(&version) {
            return Err(VmdkError::Unsupported(format!("sparse header version {version}")));
        }
        Ok(Some(Self { capacity, descriptor_start, descriptor_sectors }))
    }
}

/// The descriptor text of a file, and the header that it is embedded behind.
pub(super) fn descriptor_text(
    file: &File,
    name: &str,
    len: u64,
) -> Result<(String, Option<SparseHeader>), VmdkError> {
    let read = |offset, bytes| read_at(file, offset, bytes).map_err(|it| VmdkError::io(name, it));
    let head = read(0, SECTOR)?;
    if head.starts_with(b"COWD") {
        return Err(VmdkError::NotADescriptor("it is an extent"));
    }
    let (bytes, header) = match SparseHeader::parse(&head)? {
        None if len > MAX_TEXT => return Err(VmdkError::TooLarge(len)),
        None => (read(0, len)?, None),
        Some(header) if header.descriptor_sectors == 0 => {
            return Err(VmdkError::NotADescriptor("it is an extent"));
        }
        // A reader that takes the offset from the header and one that takes the usual place must see one text.
        Some(header) if header.descriptor_start != EMBEDDED_START => {
            return Err(VmdkError::Unsupported("a descriptor in an unusual place".to_owned()));
        }
        Some(header) if header.descriptor_sectors > EMBEDDED_SECTORS => {
            return Err(VmdkError::TooLarge(header.descriptor_sectors.saturating_mul(SECTOR)));
        }
        Some(header) => (read(EMBEDDED_START * SECTOR, EMBEDDED_SECTORS * SECTOR)?, Some(header)),
    };
    let end = bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(bytes)
        .map_err(|_| VmdkError::NotADescriptor("it is neither a text nor a sparse extent"))?;
    let marked = text
        .trim_start()
        .get(..21)
        .is_some_and(|it| it.eq_ignore_ascii_case("# Disk DescriptorFile"));
    if !marked {
        return Err(VmdkError::NotADescriptor("it does not begin with `# Disk DescriptorFile`"));
    }
    Ok((text.to_owned(), header))
}

/// The header of an extent, where it is a hosted sparse one.
pub(super) fn extent_header(file: &File, name: &str) -> Result<Option<SparseHeader>, VmdkError> {
    let head = read_at(file, 0, SECTOR).map_err(|it| VmdkError::io(name, it))?;
    SparseHeader::parse(&head)
}

/// Reads up to `len` bytes, fewer at the end of the file; callers bound `len`.
fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len.min(MAX_TEXT)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|it| !it.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
