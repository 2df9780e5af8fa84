//! The refcounts of a file, read in any width and compared with what refers to its clusters.

use super::Walk;
use crate::error::OpenError;
use crate::format::{MAX_REFCOUNT_TABLE_BYTES, index};

impl Walk<'_> {
    /// Reads the refcount table; the answer has an offset for every block that can be read.
    pub(super) fn refcount_table(&mut self) -> Result<Vec<Option<u64>>, OpenError> {
        let (offset, clusters) =
            (self.header.refcount_table_offset, self.header.refcount_table_clusters);
        let bytes = clusters * self.geometry.cluster_size();
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.file_len);
        if !self.geometry.is_aligned(offset) || !fits || offset == 0 || clusters == 0 {
            self.report.error(48, "the refcount table does not lie within the file");
            return Ok(Vec::new());
        }
        if bytes > MAX_REFCOUNT_TABLE_BYTES {
            self.report.error(56, "the refcount table is larger than any image needs");
            return Ok(Vec::new());
        }
        self.refer(offset, clusters, "the refcount table");
        let mut blocks = Vec::new();
        for (slot, entry) in self.read_words(offset, bytes)?.iter().enumerate() {
            let fits = entry
                .checked_add(self.geometry.cluster_size())
                .is_some_and(|end| end <= self.file_len);
            let block = (*entry != 0).then_some(*entry);
            if block.is_some() && (!self.geometry.is_aligned(*entry) || !fits) {
                let place = offset + slot as u64 * 8;
                self.report.error(place, "a refcount block does not lie within the file");
                blocks.push(None);
                continue;
            }
            if let Some(block) = block {
                self.refer(block, 1, "a refcount block");
                self.placement.blocks.push(block);
            }
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// Compares refcounts with references, block by block.
    pub(super) fn compare(&mut self, blocks: &[Option<u64>]) -> Result<(), OpenError> {
        // Widths are powers of two up to 64 bits, as the header's parser has made sure.
        let per_block = (self.geometry.cluster_size() * 8) >> self.header.refcount_order;
        let size = self.geometry.cluster_size();
        let covered = blocks.len() as u64 * per_block;
        for (number, block) in blocks.iter().enumerate() {
            let first = number as u64 * per_block;
            if block.is_none() && first >= self.references.end() {
                continue;
            }
            let bytes = self.block(*block)?;
            for slot in 0..per_block {
                let count = count_at(&bytes, slot, self.header.refcount_order);
                let cluster = first + slot;
                match (self.references.count(cluster), count) {
                    (found, count) if found == count => (),
                    (0, _) => self.report.leak(cluster * size),
                    (1, _) => {
                        let what = format!("the refcount is {count} where one thing refers to it");
                        self.report.error(cluster * size, what);
                    }
                    (found, _) => {
                        let what = format!("the refcount is {count} where {found} refer to it");
                        self.report.error(cluster * size, what);
                    }
                }
            }
        }
        for cluster in covered..self.references.end() {
            if self.references.count(cluster) > 0 {
                self.report.error(cluster * size, "a used cluster has no refcount");
            }
        }
        Ok(())
    }

    /// One block as bytes; without a block all refcounts are 0.
    fn block(&self, block: Option<u64>) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; self.geometry.cluster_len()];
        if let Some(offset) = block {
            let read = self.file.read_exact_at(&mut bytes, offset);
            read.map_err(OpenError::read(self.path))?;
        }
        Ok(bytes)
    }
}

/// The refcount in a slot of a block: big-endian from a byte on, and from the lowest bit up within one.
fn count_at(block: &[u8], slot: u64, order: u32) -> u64 {
    let slot = index(slot);
    if order >= 3 {
        let len = 1 << (order - 3);
        let bytes = &block[slot * len..(slot + 1) * len];
        return bytes.iter().fold(0, |count, byte| count << 8 | u64::from(*byte));
    }
    let (bits, per_byte) = (1 << order, 8 >> order);
    let byte = u64::from(block[slot / per_byte]);
    byte >> (slot % per_byte * bits) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::count_at;

    #[test]
    fn refcounts_of_every_width_are_read() {
        let block = [0b1010_0110, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE];
        let bits: Vec<u64> = (0..8).map(|slot| count_at(&block, slot, 0)).collect();
        assert_eq!(bits, [0, 1, 1, 0, 0, 1, 0, 1]);
        assert_eq!([0, 1, 2, 3].map(|slot| count_at(&block, slot, 1)), [2, 1, 2, 2]);
        assert_eq!([0, 1, 2, 3].map(|slot| count_at(&block, slot, 2)), [6, 10, 2, 1]);
        assert_eq!(count_at(&block, 1, 3), 0x12);
        assert_eq!(count_at(&block, 1, 4), 0x3456);
        assert_eq!(count_at(&block, 1, 5), 0x789A_BCDE);
        assert_eq!(count_at(&block, 0, 6), 0xA612_3456_789A_BCDE);
    }
}
