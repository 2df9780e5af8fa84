//! The beginning of a .vmdk file: a text, or the header of a sparse extent with a text behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::VmdkError;
use super::descriptor::SECTOR;
use super::hosted::{HEADER_LEN, HostedHeader};

/// The longest descriptor file that is read, in bytes; qemu reads no more either.
pub const MAX_TEXT: u64 = 1 << 20;

/// Where qemu and the hypervisor expect an embedded descriptor, and how long it may be, in sectors.
const EMBEDDED_START: u64 = 1;
const EMBEDDED_SECTORS: u64 = 20;

/// The descriptor text of a file, and the header that it is embedded behind.
pub(super) fn descriptor_text(
    file: &File,
    name: &str,
    len: u64,
) -> Result<(String, Option<HostedHeader>), VmdkError> {
    let read = |offset, bytes| read_at(file, offset, bytes).map_err(|it| VmdkError::io(name, it));
    let head = read(0, HEADER_LEN)?;
    if head.starts_with(b"COWD") {
        return Err(VmdkError::NotADescriptor("it is an extent"));
    }
    let parse = |head| {
        let parsed = HostedHeader::is_one(head).then(|| HostedHeader::parse(head)).transpose();
        parsed.map_err(|source| VmdkError::Header { file: name.to_owned(), source })
    };
    let (bytes, header) = match parse(&head)? {
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
