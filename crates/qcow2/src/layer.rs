//! One image of a chain, opened for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_block::{BlockError, BufferPool, PooledBuffer};

use crate::cluster_codec::Unpacker;
use crate::error::OpenError;
use crate::format::{COPIED, OFFSET, index, words};
use crate::header::Header;
use crate::recent::Recent;
use crate::run::{Run, TableView, resolve, table_spans};
use crate::store_file::StoreFile;

/// L2 tables that were used lately.
pub(crate) type TableCache = Recent<Arc<[u64]>>;

/// An open image: its header and L1 table; L2 tables are read when asked for.
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) file: StoreFile,
    l1: Box<[u64]>,
    file_len: u64,
    unpacker: Unpacker,
}

impl Layer {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = StoreFile::open_read(path).map_err(OpenError::io(path))?;
        let file_len = file.len().map_err(OpenError::io(path))?;
        let header = Header::read(&file, path, file_len)?;
        let l1 = read_l1(&file, path, &header)?;
        let unpacker = Unpacker::new(header.compression);
        Ok(Self { path: path.to_owned(), header, file, l1, file_len, unpacker })
    }

    /// What this image says about a range within its size. Blocks.
    pub(crate) fn runs(
        &self,
        layer: usize,
        cache: &TableCache,
        (offset, len): (u64, u64),
        runs: &mut Vec<Run>,
    ) -> Result<(), BlockError> {
        let geometry = self.header.geometry;
        for (number, at, len) in table_spans(geometry, offset, len) {
            let place = self.table_offset(number)?;
            let table = match place {
                None => None,
                Some(place) => Some((place, self.table(layer, cache, number, place)?)),
            };
            let view =
                table.as_ref().map(|(offset, it)| TableView { entries: it, offset: *offset });
            resolve(geometry, view, self.file_len, (at, len), runs)
                .map_err(|(place, fault)| fault.at(place, self.file.label()))?;
        }
        Ok(())
    }

    /// Unpacks the cluster whose compressed bytes begin at `host` and take at most `stored` bytes. Blocks.
    pub(crate) fn unpack(
        &self,
        pool: &BufferPool,
        (host, stored): (u64, u64),
        cluster: &mut [u8],
    ) -> Result<(), BlockError> {
        // The last sector of a file need not be whole.
        let mut packed: PooledBuffer = pool.take(index(stored));
        let len = self.file.read_up_to_at(&mut packed, host)?;
        self.unpacker.unpack(&packed[..len], cluster).map_err(|what| BlockError::Corrupt {
            offset: host,
            what: format!("{what} in {}", self.file.label()),
        })
    }

    fn table_offset(&self, number: u64) -> Result<Option<u64>, BlockError> {
        let entry = self.l1.get(index(number)).copied().unwrap_or(0);
        check_l1_entry(entry, &self.header, self.file_len).map_err(|what| BlockError::Corrupt {
            offset: self.header.l1_offset + number * 8,
            what: format!("{what} in {}", self.file.label()),
        })
    }

    fn table(
        &self,
        layer: usize,
        cache: &TableCache,
        number: u64,
        place: u64,
    ) -> Result<Arc<[u64]>, BlockError> {
        if let Some(table) = cache.get((layer, number)) {
            return Ok(table);
        }
        let mut bytes = vec![0; self.header.geometry.cluster_len()];
        self.file.read_exact_at(&mut bytes, place)?;
        let table: Arc<[u64]> = words(&bytes).into();
        cache.insert((layer, number), table.clone());
        Ok(table)
    }
}

/// Reads the L1 table, whose place and size the header parser has bounded.
pub(crate) fn read_l1(
    file: &StoreFile,
    path: &Path,
    header: &Header,
) -> Result<Box<[u64]>, OpenError> {
    let mut bytes = vec![0; index(header.l1_entries * 8)];
    file.read_exact_at(&mut bytes, header.l1_offset).map_err(OpenError::read(path))?;
    Ok(words(&bytes))
}

/// The offset of an L2 table, if there is one and it lies within the file.
pub(crate) fn check_l1_entry(
    entry: u64,
    header: &Header,
    file_len: u64,
) -> Result<Option<u64>, &'static str> {
    let offset = entry & OFFSET;
    if entry & !(COPIED | OFFSET) != 0 {
        return Err("reserved bits are set in an L1 entry");
    }
    if offset == 0 {
        return if entry == 0 { Ok(None) } else { Err("an L1 entry is flagged but has no table") };
    }
    if !header.geometry.is_aligned(offset) {
        return Err("an L1 entry is not aligned to a cluster");
    }
    if offset + header.geometry.cluster_size() > file_len {
        return Err("an L1 entry points behind the end of the file");
    }
    Ok(Some(offset))
}
