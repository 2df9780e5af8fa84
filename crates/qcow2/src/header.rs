//! The header of an image: parsed with every number bounded, and encoded for images of our own.

use std::path::Path;

use crate::error::OpenError;
use crate::format::{
    CompressionType, Geometry, MAGIC, MAX_BACKING_NAME, MAX_HOST_CLUSTERS, MAX_L1_BYTES,
    MAX_REFCOUNT_ORDER, REFCOUNT_ORDER, index,
};
use crate::store_file::StoreFile;

/// Bytes of a version 2 header.
const V2_LEN: u64 = 72;
/// Bytes of the smallest version 3 header.
const V3_LEN: u64 = 104;
/// Bytes of the header that this crate writes: version 3 with the compression type.
const OUR_LEN: u32 = 112;
/// The header extension that names the format of the backing file.
const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// Bytes that are read of a header before it is known to be longer.
const FIRST_READ: u64 = 4096;
/// The header and the name of the backing file lie in the first cluster.
const LARGEST_CLUSTER: u64 = 1 << 21;
/// Header fields are written in whole sectors, the unit that a disk writes at once.
const SECTOR: usize = 512;

/// Incompatible features: the image was not closed, which concerns refcounts only.
const DIRTY: u64 = 1;
const MARKED_CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The compression type byte, at 104: 0 is deflate, 1 is zstd.
const ZSTD: u32 = 1;

/// The backing file as the header records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedBacking {
    pub(crate) name: String,
    pub(crate) format: String,
}

/// What the header says, as far as this crate uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) geometry: Geometry,
    pub(crate) virtual_size: u64,
    pub(crate) backing: Option<NamedBacking>,
    pub(crate) l1_offset: u64,
    pub(crate) l1_entries: u64,
    pub(crate) refcount_table_offset: u64,
    pub(crate) refcount_table_clusters: u64,
    pub(crate) refcount_order: u32,
    pub(crate) snapshots: u32,
    pub(crate) dirty: bool,
    pub(crate) compression: CompressionType,
}

/// The header cluster as read; fields beyond its end read as missing.
struct Raw<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl Header {
    /// Reads and checks the header of a file of `file_len` bytes.
    pub(crate) fn read(file: &StoreFile, path: &Path, file_len: u64) -> Result<Self, OpenError> {
        let mut bytes = vec![0; index(file_len.min(FIRST_READ))];
        file.read_exact_at(&mut bytes, 0).map_err(OpenError::read(path))?;
        let raw = Raw { bytes: &bytes, path };
        let name = [8, 12, 16].map(|at| raw.try_u32(at).unwrap_or(0));
        let name_end =
            (u64::from(name[0]) << 32 | u64::from(name[1])).saturating_add(u64::from(name[2]));
        if name_end > FIRST_READ {
            // Most headers end much earlier; only the name of a backing file may lie further back.
            bytes = vec![0; index(file_len.min(LARGEST_CLUSTER))];
            file.read_exact_at(&mut bytes, 0).map_err(OpenError::read(path))?;
        }
        Self::parse(&bytes, path, file_len)
    }

    /// Parses the first bytes of a file; `path` is for error texts only.
    pub(crate) fn parse(bytes: &[u8], path: &Path, file_len: u64) -> Result<Self, OpenError> {
        let raw = Raw { bytes, path };
        if raw.try_u32(0) != Some(MAGIC) {
            return Err(OpenError::NotQcow2(path.to_owned()));
        }
        let version = raw.u32(4)?;
        if !(2..=3).contains(&version) {
            return Err(OpenError::unsupported(path, format!("qcow2 version {version} is")));
        }
        let features = if version == 3 { raw.u64(72)? } else { 0 };
        raw.check_features(features)?;
        let Some(geometry) = Geometry::new(raw.u32(20)?) else {
            return Err(raw.corrupt(20, "the cluster size is not possible"));
        };
        let header_len = if version == 3 { u64::from(raw.u32(100)?) } else { V2_LEN };
        let header = Self {
            geometry,
            virtual_size: raw.u64(24)?,
            backing: None,
            l1_entries: u64::from(raw.u32(36)?),
            l1_offset: raw.u64(40)?,
            refcount_table_offset: raw.u64(48)?,
            refcount_table_clusters: u64::from(raw.u32(56)?),
            refcount_order: if version == 3 { raw.u32(96)? } else { REFCOUNT_ORDER },
            snapshots: raw.u32(60)?,
            dirty: features & DIRTY != 0,
            compression: CompressionType::default(),
        };
        header.check_bounds(&raw, file_len)?;
        let least = if version == 3 { V3_LEN } else { V2_LEN };
        if header_len < least || header_len > geometry.cluster_size() || header_len % 8 != 0 {
            return Err(raw.corrupt(100, "the header length is not possible"));
        }
        let compression = raw.compression(features, header_len)?;
        let backing = raw.backing(geometry, header_len)?;
        Ok(Self { backing, compression, ..header })
    }

    fn check_bounds(&self, raw: &Raw<'_>, file_len: u64) -> Result<(), OpenError> {
        let l1_bytes = self.l1_entries * 8;
        if self.geometry.l1_entries(self.virtual_size) > self.l1_entries {
            return Err(raw.corrupt(36, "the L1 table is too small for the virtual size"));
        }
        if l1_bytes > MAX_L1_BYTES {
            return Err(raw.corrupt(36, "the L1 table is larger than any image needs"));
        }
        let fits = self.l1_offset.checked_add(l1_bytes).is_some_and(|end| end <= file_len);
        if !self.geometry.is_aligned(self.l1_offset) || !fits {
            return Err(raw.corrupt(40, "the L1 table does not lie within the file"));
        }
        if self.l1_entries > 0 && self.l1_offset == 0 {
            return Err(raw.corrupt(40, "the L1 table lies on the header"));
        }
        if self.refcount_order > MAX_REFCOUNT_ORDER {
            return Err(raw.corrupt(96, "refcounts of so many bits are not possible"));
        }
        if file_len / self.geometry.cluster_size() > MAX_HOST_CLUSTERS {
            return Err(OpenError::unsupported(raw.path, "a file of so many clusters is"));
        }
        Ok(())
    }

    /// The bytes of the header, in whole sectors; nothing if they do not fit the first cluster.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(SECTOR);
        let mut put32 = |value: u32| bytes.extend_from_slice(&value.to_be_bytes());
        let high = |value: u64| u32::try_from(value >> 32).unwrap_or(0);
        let low = |value: u64| u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0);
        let name = self.backing.as_ref().map_or("", |it| it.name.as_str());
        let format = self.backing.as_ref().map_or("", |it| it.format.as_str());
        let name_offset = self.name_offset();
        let name_len = u32::try_from(name.len()).ok()?;
        [MAGIC, 3, high(name_offset), low(name_offset), name_len].into_iter().for_each(&mut put32);
        put32(self.geometry.cluster_bits());
        [high(self.virtual_size), low(self.virtual_size), 0].into_iter().for_each(&mut put32);
        put32(u32::try_from(self.l1_entries).ok()?);
        for offset in [self.l1_offset, self.refcount_table_offset] {
            [high(offset), low(offset)].into_iter().for_each(&mut put32);
        }
        put32(u32::try_from(self.refcount_table_clusters).ok()?);
        let (features, compression) = match self.compression {
            CompressionType::Zlib => (0, 0),
            CompressionType::Zstd => (low(COMPRESSION_TYPE), ZSTD << 24),
        };
        // No snapshots; incompatible, compatible and automatically cleared features of 64 bits each.
        [0, 0, 0, 0, features, 0, 0, 0, 0].into_iter().for_each(&mut put32);
        [REFCOUNT_ORDER, OUR_LEN, compression, 0].into_iter().for_each(&mut put32);
        if !format.is_empty() {
            [BACKING_FORMAT, u32::try_from(format.len()).ok()?].into_iter().for_each(&mut put32);
            bytes.extend_from_slice(format.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        (bytes.len() <= self.geometry.cluster_len() && name.len() <= MAX_BACKING_NAME)
            .then_some(bytes)
    }

    /// The name follows the header, the format extension and the end of extensions.
    fn name_offset(&self) -> u64 {
        match &self.backing {
            None => 0,
            Some(backing) if backing.format.is_empty() => u64::from(OUR_LEN) + 8,
            Some(backing) => {
                u64::from(OUR_LEN) + 8 + backing.format.len().next_multiple_of(8) as u64 + 8
            }
        }
    }
}

impl Raw<'_> {
    fn try_u32(&self, at: u64) -> Option<u32> {
        let bytes = self.bytes.get(index(at)..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn u32(&self, at: u64) -> Result<u32, OpenError> {
        self.try_u32(at).ok_or_else(|| self.corrupt(at, "the header is cut off"))
    }

    fn u64(&self, at: u64) -> Result<u64, OpenError> {
        Ok(u64::from(self.u32(at)?) << 32 | u64::from(self.u32(at + 4)?))
    }

    fn text(&self, at: u64, len: u64) -> Result<String, OpenError> {
        let bytes = self.bytes.get(index(at)..index(at + len));
        let bytes = bytes.ok_or_else(|| self.corrupt(at, "the header is cut off"))?;
        let text = std::str::from_utf8(bytes);
        Ok(text.map_err(|_| self.corrupt(at, "a name is not text"))?.to_owned())
    }

    fn corrupt(&self, offset: u64, what: &str) -> OpenError {
        OpenError::corrupt(self.path, offset, what)
    }

    fn check_features(&self, features: u64) -> Result<(), OpenError> {
        if self.u32(32)? != 0 {
            return Err(OpenError::unsupported(self.path, "encryption is"));
        }
        if features & MARKED_CORRUPT != 0 {
            return Err(self.corrupt(72, "the image is marked as corrupt"));
        }
        if features & EXTERNAL_DATA != 0 {
            return Err(OpenError::unsupported(self.path, "an external data file is"));
        }
        if features & EXTENDED_L2 != 0 {
            return Err(OpenError::unsupported(self.path, "extended L2 entries are"));
        }
        let unknown = features & !(DIRTY | COMPRESSION_TYPE);
        if unknown != 0 {
            let what = format!("incompatible features {unknown:#x} are");
            return Err(OpenError::unsupported(self.path, what));
        }
        Ok(())
    }

    /// The byte may only be there, and has to be, with the feature that says so.
    fn compression(&self, features: u64, header_len: u64) -> Result<CompressionType, OpenError> {
        let byte = if header_len > V3_LEN { self.u32(V3_LEN)? >> 24 } else { 0 };
        match (features & COMPRESSION_TYPE != 0, byte) {
            (false, 0) => Ok(CompressionType::Zlib),
            (true, ZSTD) => Ok(CompressionType::Zstd),
            (true, 0) | (false, _) => {
                Err(self.corrupt(V3_LEN, "the compression type contradicts the features"))
            }
            (true, _) => {
                let what = format!("compression of type {byte} is");
                Err(OpenError::unsupported(self.path, what))
            }
        }
    }

    fn backing(
        &self,
        geometry: Geometry,
        header_len: u64,
    ) -> Result<Option<NamedBacking>, OpenError> {
        let (offset, len) = (self.u64(8)?, u64::from(self.u32(16)?));
        if offset == 0 {
            return Ok(None);
        }
        let end = offset.saturating_add(len);
        let fits = offset >= header_len && end <= geometry.cluster_size();
        if len == 0 || len > MAX_BACKING_NAME as u64 || !fits {
            return Err(self.corrupt(8, "the backing name does not lie within the header"));
        }
        let name = self.text(offset, len)?;
        let format = self.backing_format(header_len, offset)?.unwrap_or_default();
        Ok(Some(NamedBacking { name, format }))
    }

    /// Walks the header extensions, which end before the backing name.
    fn backing_format(&self, header_len: u64, end: u64) -> Result<Option<String>, OpenError> {
        let mut at = header_len;
        while at + 8 <= end {
            let (kind, len) = (self.u32(at)?, u64::from(self.u32(at + 4)?));
            if kind == 0 {
                break;
            }
            if len > end - at - 8 {
                return Err(self.corrupt(at, "a header extension leaves the header"));
            }
            if kind == BACKING_FORMAT {
                return self.text(at + 8, len).map(Some);
            }
            at += 8 + len.next_multiple_of(8);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> Option<Header> {
        Some(Header {
            geometry: Geometry::new(16)?,
            virtual_size: 109_521_666_048,
            backing: Some(NamedBacking {
                name: "full.qcow2".to_owned(),
                format: "qcow2".to_owned(),
            }),
            l1_offset: 0x7_0000_0000,
            l1_entries: 204,
            refcount_table_offset: 0x7_0001_0000,
            refcount_table_clusters: 2,
            refcount_order: REFCOUNT_ORDER,
            snapshots: 0,
            dirty: false,
            compression: CompressionType::Zlib,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Header, OpenError> {
        Header::parse(bytes, Path::new("disk.qcow2"), 1 << 40)
    }

    #[test]
    fn a_header_comes_back() {
        let header = overlay().unwrap();
        let bytes = header.encode().unwrap();
        assert_eq!(bytes.len(), 512);
        assert_eq!(parse(&bytes).unwrap(), header);
        let header = Header { compression: CompressionType::Zstd, ..header };
        let bytes = header.encode().unwrap();
        assert_eq!((bytes[79], bytes[104]), (8, 1));
        assert_eq!(parse(&bytes).unwrap(), header);
    }

    #[test]
    fn a_name_that_does_not_fit_is_not_encoded() {
        let mut header = overlay().unwrap();
        header.backing.as_mut().unwrap().name = "x".repeat(1024);
        assert_eq!(header.encode(), None);
        header.backing.as_mut().unwrap().name = "x".repeat(400);
        header.geometry = Geometry::new(9).unwrap();
        assert_eq!(header.encode(), None);
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        let bytes = overlay().unwrap().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            parse(&bytes).unwrap_err().to_string()
        };
        assert!(with(0, 0).contains("is not a qcow2 image"));
        assert!(with(7, 4).contains("version 4"));
        assert!(with(35, 1).contains("encryption"));
        assert!(with(79, 2).contains("marked as corrupt"));
        assert!(with(79, 4).contains("external data file"));
        assert!(with(79, 16).contains("extended L2"));
        assert!(with(72, 1).contains("incompatible features"));
        assert!(with(23, 30).contains("cluster size"));
        assert!(with(24, 0x70).contains("too small"));
        assert!(with(36, 0x70).contains("larger than any"));
        assert!(with(41, 0xFF).contains("within the file"));
        assert!(with(18, 0xFF).contains("backing name"));
        assert!(with(103, 1).contains("header length"));
        assert!(with(79, 8).contains("compression type"));
        assert!(with(104, 1).contains("compression type"));
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error() {
        let bytes = overlay().unwrap().encode().unwrap();
        for len in 0..138 {
            assert!(parse(&bytes[..len]).is_err(), "{len}");
        }
    }
}
