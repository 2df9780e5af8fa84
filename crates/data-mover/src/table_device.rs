//! A digest table as a device, so that it travels over the same wire as a disk.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, check_range};

use crate::DigestTable;
use crate::digest_table::{DIGEST_BYTES, GROUP, usize_of};
use crate::examine::read_run;

/// Bytes of a table that are asked for at a time.
const REQUEST: u32 = 1 << 20;

/// Requests for parts of a table under way at a time.
const IN_FLIGHT: usize = 8;

/// Extents of a table are asked for so many bytes at a time.
const WINDOW: u64 = 256 << 20;

impl DigestTable {
    /// The table's bytes, 32 per block, as a read-only device that follows every later change.
    pub fn as_device(self: &Arc<Self>) -> Arc<dyn BlockDevice> {
        Arc::new(TableDevice { table: self.clone() })
    }

    /// Replaces all digests by those of a device that another table's [`as_device`](Self::as_device) is behind.
    ///
    /// The device has to have exactly 32 bytes per block of this table, else it is refused as corrupt.
    /// Whether they are the right ones is told by comparing [`root`](Self::root) with one that is trusted.
    /// The table of a parent that was smaller is loaded into a table of that capacity, which is then
    /// given to [`copy_from`](Self::copy_from). Holds at most 8 MiB at a time.
    pub async fn load(&self, device: &dyn BlockDevice) -> Result<(), BlockError> {
        let size = self.block_count() * DIGEST_BYTES;
        if device.size() != size {
            let what =
                format!("a digest table of {} bytes, where {size} were expected", device.size());
            return Err(BlockError::Corrupt { offset: 0, what });
        }
        self.clear()?;
        let mut at = 0;
        while at < size {
            let len = WINDOW.min(size - at);
            let pieces = data_pieces(device.extents(at, len).await?, at..at + len);
            stream::iter(pieces)
                .map(|(offset, len)| async move {
                    let len = u64::from(len);
                    let run = Extent { offset, len, kind: ExtentKind::Data };
                    Ok::<_, BlockError>((offset, read_run(device, run).await?))
                })
                .buffer_unordered(IN_FLIGHT)
                .try_for_each(
                    async |(offset, raw)| Ok(self.write_raw(offset / DIGEST_BYTES, &raw)?),
                )
                .await?;
            at += len;
        }
        Ok(())
    }
}

/// The parts of a window that have to be read, as whole digests in requests.
fn data_pieces(extents: Vec<Extent>, window: Range<u64>) -> impl Iterator<Item = (u64, u32)> {
    crate::runs::block_runs(window, extents, DIGEST_BYTES)
        .into_iter()
        .filter(|run| run.kind == ExtentKind::Data)
        .flat_map(|run| {
            let step = usize::try_from(REQUEST).unwrap_or(usize::MAX);
            (run.offset..run.end())
                .step_by(step)
                .map(move |at| (at, u32::try_from(run.end() - at).unwrap_or(REQUEST).min(REQUEST)))
        })
}

struct TableDevice {
    table: Arc<DigestTable>,
}

impl TableDevice {
    async fn on_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DigestTable) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, BlockError> {
        let table = self.table.clone();
        let done = tokio::task::spawn_blocking(move || work(&table)).await;
        Ok(done.map_err(std::io::Error::other)??)
    }
}

#[async_trait]
impl BlockDevice for TableDevice {
    fn size(&self) -> u64 {
        self.table.block_count() * DIGEST_BYTES
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.size())?;
        let end = offset + u64::from(len);
        let first = offset / DIGEST_BYTES;
        let count = usize_of(end.div_ceil(DIGEST_BYTES) - first);
        let skip = usize_of(offset - first * DIGEST_BYTES);
        self.on_table(move |table| {
            let mut raw = Vec::new();
            table.read_raw(first, count, &mut raw)?;
            Ok(Bytes::from(raw).slice(skip..skip + len as usize))
        })
        .await
    }

    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.size())?;
        self.on_table(move |table| stored_extents(table, offset..offset + len)).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// Holes of the table's file are zero; the rest is data, in groups.
fn stored_extents(table: &DigestTable, range: Range<u64>) -> std::io::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let stored = table.next_stored(at / DIGEST_BYTES)?;
        let data = stored.map_or(range.end, |block| (block * DIGEST_BYTES).clamp(at, range.end));
        if data > at {
            extents.push(Extent { offset: at, len: data - at, kind: ExtentKind::Zero });
        }
        let end = range.end.min(data - data % DIGEST_BYTES + GROUP * DIGEST_BYTES);
        if end > data {
            extents.push(Extent { offset: data, len: end - data, kind: ExtentKind::Data });
        }
        at = end.max(data);
    }
    Ok(hub_block::merge_extents(extents))
}

#[cfg(test)]
mod tests {
    use hub_block::MemoryDevice;

    use super::*;
    use crate::oracle::ShortAnswers;
    use crate::{BlockSize, Digest};

    fn some_table(capacity: u64) -> Arc<DigestTable> {
        let table = DigestTable::temporary(capacity, BlockSize::MIN).unwrap();
        for block in (0..table.block_count()).step_by(7) {
            table.set(block, Digest::of(&block.to_le_bytes())).unwrap();
        }
        Arc::new(table)
    }

    #[tokio::test]
    async fn a_table_travels_as_a_device() {
        let table = some_table(300 * 4096 + 512);
        let device = table.as_device();
        assert_eq!(device.size(), 301 * 32);
        let copy = DigestTable::temporary(300 * 4096 + 512, BlockSize::MIN).unwrap();
        copy.set(1, Digest::UNKNOWN).unwrap();
        copy.load(&*device).await.unwrap();
        assert_eq!(copy.root().unwrap(), table.root().unwrap());
        assert_eq!(copy.get_many(0, 301).unwrap(), table.get_many(0, 301).unwrap());
    }

    #[tokio::test]
    async fn it_can_be_read_at_any_byte_and_not_written() {
        let table = some_table(100 * 4096);
        let device = table.as_device();
        let all = device.read_at(0, 3_200).await.unwrap();
        assert_eq!(device.read_at(45, 100).await.unwrap(), all.slice(45..145));
        assert_eq!(all[224..256], *table.get(7).unwrap().as_bytes());
        assert!(matches!(device.read_at(3_200, 1).await, Err(BlockError::OutOfRange { .. })));
        let refused = device.write_at(0, Bytes::from_static(b"x")).await;
        assert!(matches!(refused, Err(BlockError::ReadOnly)));
        assert!(matches!(device.write_zeroes(0, 1).await, Err(BlockError::ReadOnly)));
        assert!(device.read_only());
    }

    #[tokio::test]
    async fn extents_cover_what_was_asked_and_skip_holes() {
        let table = Arc::new(DigestTable::temporary(64 << 30, BlockSize::USUAL).unwrap());
        table.set(900_000, Digest::of(b"x")).unwrap();
        let device = table.as_device();
        let extents = device.extents(5, device.size() - 5).await.unwrap();
        let mut at = 5;
        for extent in &extents {
            assert_eq!(extent.offset, at);
            at = extent.end();
        }
        assert_eq!(at, device.size());
        let zero: u64 =
            extents.iter().filter(|it| it.kind == ExtentKind::Zero).map(|it| it.len).sum();
        assert!(zero > device.size() - 256 * 1024, "{extents:?}");
        assert!(device.extents(0, 0).await.unwrap().is_empty());
    }

    /// Digests that did not arrive would pass for zero, and a stale block for an unchanged one.
    #[tokio::test]
    async fn a_short_answer_is_refused() {
        let table = DigestTable::temporary(10 * 4096, BlockSize::MIN).unwrap();
        let device = ShortAnswers(MemoryDevice::new_read_only(vec![1; 320]));
        assert!(matches!(table.load(&device).await, Err(BlockError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn a_device_of_another_size_is_refused() {
        let table = DigestTable::temporary(10 * 4096, BlockSize::MIN).unwrap();
        for size in [0, 319, 321, 640] {
            let device = MemoryDevice::new_read_only(vec![1; size]);
            let refused = table.load(&device).await;
            assert!(matches!(refused, Err(BlockError::Corrupt { .. })), "{size}");
        }
    }
}
