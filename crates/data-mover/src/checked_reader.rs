//! Reading with proof: nothing is served that does not match the manifest.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, check_range, merge_extents};

use crate::digest::digests_of;
use crate::digest_table::{GROUP, usize_of};
use crate::examine::look_at;
use crate::plan::widened;
use crate::runs::block_runs;
use crate::{Digest, DigestTable};

/// Bytes that are read and checked together, unless one block is larger.
const STEP: u64 = 1 << 20;

/// A read-only device in front of an image chain that checks every block against a digest table.
///
/// A block that does not match is [`BlockError::Corrupt`] with the block's offset on the disk.
/// A read of a few bytes reads and hashes their whole block.
pub struct CheckedReader {
    inner: Arc<dyn BlockDevice>,
    table: Arc<DigestTable>,
}

impl CheckedReader {
    /// Puts the table before the image; refuses as corrupt an image whose size is not the table's.
    pub fn new(inner: Arc<dyn BlockDevice>, table: Arc<DigestTable>) -> Result<Self, BlockError> {
        if inner.size() == table.capacity() {
            return Ok(Self { inner, table });
        }
        let what =
            format!("the image has {} bytes, its manifest {}", inner.size(), table.capacity());
        Err(BlockError::Corrupt { offset: 0, what })
    }

    /// Reads whole blocks and compares each.
    async fn checked(&self, bytes: Range<u64>) -> Result<Bytes, BlockError> {
        let len = bytes.end - bytes.start;
        let run = Extent { offset: bytes.start, len, kind: ExtentKind::Data };
        let table = self.table.clone();
        let looked = look_at(&self.inner, run, move |data| {
            let first = run.offset / table.block_size().bytes();
            let found = digests_of(&data, table.block_size());
            let expected = table.get_many(first, found.len())?;
            match { found.iter().zip(&expected) }.position(|(found, expected)| found != expected) {
                None => Ok(data),
                Some(index) => Err(mismatch(&table, first + index as u64)),
            }
        });
        looked.await?
    }
}

fn mismatch(table: &DigestTable, block: u64) -> BlockError {
    let what = "the block does not match its digest in the manifest".to_owned();
    BlockError::Corrupt { offset: table.bytes_of(block..block + 1).start, what }
}

/// Fails at the first block of a range of bytes whose digest says that it holds something.
fn check_zero(table: &DigestTable, bytes: Range<u64>) -> Result<(), BlockError> {
    let size = table.block_size().bytes();
    let end = bytes.end.div_ceil(size);
    let mut block = bytes.start / size;
    while let Some(first) = table.next_stored(block)?.filter(|first| *first < end) {
        let count = (end - first).min(GROUP);
        let digests = table.get_many(first, usize_of(count))?;
        if let Some(index) = digests.iter().position(|digest| *digest != Digest::ZERO) {
            return Err(mismatch(table, first + index as u64));
        }
        block = first + count;
    }
    Ok(())
}

#[async_trait]
impl BlockDevice for CheckedReader {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.size())?;
        let end = offset + u64::from(len);
        let blocks = widened(offset..end, &self.table);
        let step = STEP.max(self.table.block_size().bytes());
        if blocks.end - blocks.start <= step {
            if len == 0 {
                return Ok(Bytes::new());
            }
            let data = self.checked(blocks.clone()).await?;
            return Ok(data.slice(usize_of(offset - blocks.start)..usize_of(end - blocks.start)));
        }
        let mut whole = BytesMut::with_capacity(len as usize);
        let mut at = blocks.start;
        while at < blocks.end {
            let stop = blocks.end.min(at + step);
            let data = self.checked(at..stop).await?;
            let wanted = offset.max(at) - at..end.min(stop) - at;
            whole.extend_from_slice(&data[usize_of(wanted.start)..usize_of(wanted.end)]);
            at = stop;
        }
        Ok(whole.freeze())
    }

    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    /// Calls zero only whole blocks that the manifest calls so too; what the image has lost is corrupt.
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.size())?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let asked = offset..offset + len;
        let blocks = widened(asked.clone(), &self.table);
        let said = self.inner.extents(blocks.start, blocks.end - blocks.start).await?;
        let runs = block_runs(blocks, said, self.table.block_size().bytes());
        let (table, zeroes) = (self.table.clone(), runs.clone());
        tokio::task::spawn_blocking(move || {
            let mut zeroes = zeroes.iter().filter(|run| run.kind == ExtentKind::Zero);
            zeroes.try_for_each(|run| check_zero(&table, run.offset..run.end()))
        })
        .await
        .map_err(std::io::Error::other)??;
        Ok(merge_extents(runs.into_iter().map(|run| {
            let (start, end) = (run.offset.max(asked.start), run.end().min(asked.end));
            Extent { offset: start, len: end - start, kind: run.kind }
        })))
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hub_block::MemoryDevice;
    use proptest::prelude::*;

    use super::*;
    use crate::BlockSize;
    use crate::oracle::{Oracle, block_on, table_of};

    fn reader(image: Vec<u8>, table: DigestTable) -> CheckedReader {
        CheckedReader::new(Arc::new(MemoryDevice::new(image)), Arc::new(table)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// P4: whatever bit is flipped, a read that needs its block says so, and every other read is right.
        #[test]
        fn a_flipped_bit_is_never_served(
            sectors in 1_usize..200, seed in any::<u64>(),
            bit in any::<prop::sample::Index>(),
            from in any::<prop::sample::Index>(), len in any::<prop::sample::Index>(),
        ) {
            let good = Oracle::new(seed).disk(sectors * 512, 4_096, 1);
            let table = table_of(&good, BlockSize::MIN).unwrap();
            let mut bad = good.clone();
            let bit = bit.index(bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            let from = from.index(good.len());
            let len = len.index(good.len() - from + 1);
            let reader = reader(bad, table);
            let block = bit / 8 / 4_096;
            let touched = len > 0 && (from / 4_096..(from + len).div_ceil(4_096)).contains(&block);
            match block_on(reader.read_at(from as u64, u32::try_from(len).unwrap())) {
                Ok(data) => {
                    prop_assert!(!touched);
                    prop_assert_eq!(&data[..], &good[from..from + len]);
                }
                Err(BlockError::Corrupt { offset, .. }) => {
                    prop_assert!(touched);
                    prop_assert_eq!(offset, block as u64 * 4_096);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[tokio::test]
    async fn long_reads_are_put_together() {
        let good = Oracle::new(3).disk((3 << 20) + 512, 65_536, 1);
        let table = table_of(&good, BlockSize::USUAL).unwrap();
        let reader = reader(good.clone(), table);
        let back = reader.read_at(100, (3 << 20) + 300).await.unwrap();
        assert_eq!(back, &good[100..(3 << 20) + 400]);
        assert!(reader.read_at(0, (3 << 20) + 513).await.is_err());
    }

    /// An image that lost a block to a hole answers "zero" for it; that must not pass for content.
    #[tokio::test]
    async fn a_lost_block_is_not_called_zero() {
        let mut image = vec![0; 10 * 4_096];
        image[5 * 4_096] = 1;
        let table = table_of(&image, BlockSize::MIN).unwrap();
        let sound = reader(image, table_of_zero_but_five());
        assert!(sound.extents(0, 10 * 4_096).await.is_ok());
        let lost = reader(vec![0; 10 * 4_096], table);
        let refused = lost.extents(0, 10 * 4_096).await;
        assert!(matches!(refused, Err(BlockError::Corrupt { offset: 20_480, .. })));
        let before = lost.extents(7, 5_000).await.unwrap();
        assert_eq!(before, [Extent { offset: 7, len: 5_000, kind: ExtentKind::Zero }]);
    }

    fn table_of_zero_but_five() -> DigestTable {
        let mut image = vec![0; 10 * 4_096];
        image[5 * 4_096] = 1;
        table_of(&image, BlockSize::MIN).unwrap()
    }

    #[test]
    fn an_image_of_another_size_is_refused() {
        let table = Arc::new(DigestTable::temporary(8_192, BlockSize::MIN).unwrap());
        let image = Arc::new(MemoryDevice::new(vec![0; 4_096]));
        assert!(matches!(CheckedReader::new(image, table), Err(BlockError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn it_is_read_only() {
        let reader = reader(vec![0; 512], table_of(&[0; 512], BlockSize::MIN).unwrap());
        assert!(reader.read_only());
        let refused = reader.write_at(0, Bytes::from_static(b"x")).await;
        assert!(matches!(refused, Err(BlockError::ReadOnly)));
        assert!(matches!(reader.write_zeroes(0, 1).await, Err(BlockError::ReadOnly)));
        assert!(reader.read_at(0, 0).await.unwrap().is_empty());
    }
}
