//! What faults leave behind: an error that names its side, and a table that does not lie.

use hub_block::{FaultPlan, FaultyDevice};

use super::super::*;
use crate::oracle::{Oracle, first_lie, memory, seam, table_of};

const SIZE: usize = 40 * 4_096 + 512;

struct Before {
    source: Vec<u8>,
    parent: Vec<u8>,
}

fn before() -> Before {
    let oracle = Oracle::new(2);
    let parent = oracle.mixed(SIZE, 4_096, &[1, 1, 0, 1, 1, 1, 1]);
    let source = oracle.mixed(SIZE, 4_096, &[1, 2, 2, 2, 0, 1, 2]);
    Before { source, parent }
}

fn options() -> CopyOptions {
    CopyOptions { request_bytes: 4 * 4_096, in_flight: 3, on_range: None }
}

async fn attempt(
    source: Arc<dyn BlockDevice>,
    target: Arc<dyn BlockDevice>,
    plan: CopyPlan,
    table: &Arc<DigestTable>,
) -> Result<CopyOutcome, CopyError> {
    let progress = Arc::new(Progress::default());
    copy(source, target, plan, table.clone(), options(), progress, CancellationToken::new()).await
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Source,
    Target,
}

fn side_of(error: &CopyError) -> Option<Side> {
    match error {
        CopyError::Source { offset, .. } if *offset < SIZE as u64 => Some(Side::Source),
        CopyError::Target { offset, .. } if *offset <= SIZE as u64 => Some(Side::Target),
        CopyError::SizeMismatch { .. }
        | CopyError::AreaOutOfRange { .. }
        | CopyError::Source { .. }
        | CopyError::Target { .. }
        | CopyError::Table(_)
        | CopyError::Cancelled
        | CopyError::Digest(_) => None,
    }
}

/// Fails the n-th operation for every n until the copy passes; each failure is finished by a second run.
async fn sweep(side: Side, full: bool, plan_of: fn(u64) -> FaultPlan) -> u64 {
    let Before { source, parent } = before();
    for n in 1..10_000 {
        let good: Arc<dyn BlockDevice> = memory(source.clone());
        let image = memory(if full { vec![0; SIZE] } else { parent.clone() });
        let table = DigestTable::temporary(SIZE as u64, BlockSize::MIN).unwrap();
        if !full {
            table.copy_from(&table_of(&parent, BlockSize::MIN).unwrap()).unwrap();
        }
        let table = Arc::new(table);
        let plan = if full { CopyPlan::Full } else { CopyPlan::ByDigest };
        let faulty = |inner| Arc::new(FaultyDevice::new(inner, plan_of(n)));
        let ended = match side {
            Side::Source => attempt(faulty(good.clone()), seam(&image), plan, &table).await,
            Side::Target => attempt(good.clone(), faulty(seam(&image)), plan, &table).await,
        };
        assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None, "{side:?} {n}");
        let Err(error) = ended else {
            assert_eq!(image.snapshot(), source);
            return n - 1;
        };
        assert_eq!(side_of(&error), Some(side), "{n}: {error}");
        assert!(std::error::Error::source(&error).is_some());
        let again = attempt(good, seam(&image), CopyPlan::ByDigest, &table).await.unwrap();
        assert_eq!(image.snapshot(), source, "{side:?} {n}");
        assert_eq!(again.root, table_of(&source, BlockSize::MIN).unwrap().root().unwrap());
    }
    panic!("the copy never passed");
}

#[tokio::test]
async fn every_failing_read_is_the_sources_and_can_be_made_good() {
    for full in [true, false] {
        assert!(sweep(Side::Source, full, FaultPlan::IoErrorAt).await >= 8);
        assert!(sweep(Side::Source, full, FaultPlan::DisconnectFrom).await >= 8);
    }
}

#[tokio::test]
async fn every_failing_write_or_flush_is_the_targets_and_can_be_made_good() {
    for full in [true, false] {
        assert!(sweep(Side::Target, full, FaultPlan::IoErrorAt).await >= 8);
        assert!(sweep(Side::Target, full, FaultPlan::NoSpaceFrom).await >= 8);
        assert!(sweep(Side::Target, full, FaultPlan::DisconnectFrom).await >= 8);
    }
}

/// A failed write leaves its blocks unknown, and a table with unknown blocks has no root to show.
#[tokio::test]
async fn a_failed_write_leaves_no_root() {
    let Before { source, .. } = before();
    let table = Arc::new(DigestTable::temporary(SIZE as u64, BlockSize::MIN).unwrap());
    let full = Arc::new(FaultyDevice::new(memory(vec![0; SIZE]), FaultPlan::NoSpaceFrom(3)));
    let error = attempt(memory(source), full, CopyPlan::Full, &table).await.unwrap_err();
    assert!(matches!(error, CopyError::Target { error: BlockError::NoSpace, .. }));
    assert_eq!(table.root().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

/// A target that tears one write: half of it arrives, then the disk fails.
struct Torn {
    inner: Arc<dyn BlockDevice>,
    writes_left: AtomicU64,
}

#[async_trait::async_trait]
impl BlockDevice for Torn {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        false
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.inner.read_at(offset, len).await
    }
    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        if self.writes_left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return self.inner.write_at(offset, data).await;
        }
        self.inner.write_at(offset, data.slice(..data.len() / 2)).await?;
        Err(BlockError::Io(std::io::Error::other("torn")))
    }
    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.write_zeroes(offset, len).await
    }
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }
    async fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush().await
    }
}

/// A write that arrived in part is neither the parent's content nor the new one, and is sent again.
#[tokio::test]
async fn a_torn_write_is_known_to_be_unknown() {
    let Before { source, parent } = before();
    for n in 1..=5 {
        let image = memory(parent.clone());
        let table = table_of(&parent, BlockSize::MIN).unwrap();
        let table = Arc::new(table);
        let writes_left = AtomicU64::new(n);
        let torn = Arc::new(Torn { inner: seam(&image), writes_left });
        let ended = attempt(memory(source.clone()), torn, CopyPlan::ByDigest, &table).await;
        assert!(matches!(ended, Err(CopyError::Target { .. })));
        assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None);
        attempt(memory(source.clone()), seam(&image), CopyPlan::ByDigest, &table).await.unwrap();
        assert_eq!(image.snapshot(), source);
    }
}

/// A device that cancels its own copy at the n-th read and then answers no more.
struct Silent {
    inner: Arc<dyn BlockDevice>,
    reads_left: AtomicU64,
    cancel: CancellationToken,
}

#[async_trait::async_trait]
impl BlockDevice for Silent {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        true
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        if self.reads_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.cancel.cancel();
            std::future::pending::<()>().await;
        }
        self.inner.read_at(offset, len).await
    }
    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }
    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// P9: a cancelled copy ends even while its peer says nothing, and what it did can be gone on with.
#[tokio::test]
async fn cancel_ends_a_copy_whose_source_is_silent() {
    let Before { source, .. } = before();
    for reads in [1, 4, 7] {
        let cancel = CancellationToken::new();
        let silent = Arc::new(Silent {
            inner: memory(source.clone()),
            reads_left: AtomicU64::new(reads),
            cancel: cancel.clone(),
        });
        let image = memory(vec![0; SIZE]);
        let table = Arc::new(DigestTable::temporary(SIZE as u64, BlockSize::MIN).unwrap());
        let progress = Arc::new(Progress::default());
        let (plan, options) = (CopyPlan::Full, options());
        let ended =
            copy(silent, seam(&image), plan, table.clone(), options, progress.clone(), cancel)
                .await;
        assert!(matches!(ended, Err(CopyError::Cancelled)));
        let seen = progress.snapshot();
        assert!(seen.done < seen.total);
        assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None);
        attempt(memory(source.clone()), seam(&image), CopyPlan::ByDigest, &table).await.unwrap();
        assert_eq!(image.snapshot(), source);
    }
}

#[tokio::test]
async fn a_copy_cancelled_before_it_begins_moves_nothing() {
    let source = Arc::new(FaultyDevice::new(memory(vec![1; SIZE]), FaultPlan::Never));
    let target = Arc::new(FaultyDevice::new(memory(vec![0; SIZE]), FaultPlan::Never));
    let table = Arc::new(DigestTable::temporary(SIZE as u64, BlockSize::MIN).unwrap());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let progress = Arc::new(Progress::default());
    let (plan, options) = (CopyPlan::Full, options());
    let ended = copy(source.clone(), target.clone(), plan, table, options, progress, cancel).await;
    assert!(matches!(ended, Err(CopyError::Cancelled)));
    assert_eq!(source.operations() + target.operations(), 0);
}
