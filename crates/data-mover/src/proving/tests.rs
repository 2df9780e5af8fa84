//! Writes in every order and size, some at the same time, some that fail.

use hub_block::{FaultPlan, FaultyDevice, MemoryDevice};
use proptest::prelude::*;

use super::*;
use crate::BlockSize;
use crate::oracle::{Oracle, block_on, first_lie, memory, seam, table_of};

fn proving(image: &Arc<MemoryDevice>) -> (ProvingDevice, Arc<DigestTable>) {
    let table = Arc::new(DigestTable::temporary(image.size(), BlockSize::MIN).unwrap());
    (ProvingDevice::new(seam(image), table.clone()), table)
}

#[tokio::test]
async fn passes_the_contract_of_devices() {
    hub_block::contract::writable(|size| async move {
        let inner = memory(vec![0; usize::try_from(size)?]);
        let table = DigestTable::temporary(size, BlockSize::for_capacity(size))?;
        Ok(Arc::new(ProvingDevice::new(inner, Arc::new(table))) as Arc<dyn BlockDevice>)
    })
    .await
    .unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Write(prop::sample::Index, usize, u64),
    Zero(prop::sample::Index, usize),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let len = || prop_oneof![1_usize..9_000, Just(4_096), Just(8_192)];
    let step = prop_oneof![
        6 => (index(), len(), any::<u64>()).prop_map(|(at, len, seed)| Step::Write(at, len, seed)),
        3 => (index(), len()).prop_map(|(at, len)| Step::Zero(at, len)),
        1 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is written in whatever pieces, some of them at the same time, the root is the image's.
    #[test]
    fn the_root_is_that_of_the_content(
        sectors in 1_usize..100, steps in steps(), aligned in any::<bool>(), lanes in 1_usize..5,
    ) {
        let size = sectors * 512;
        let image = memory(vec![0; size]);
        let (device, table) = proving(&image);
        block_on(async {
            for batch in steps.chunks(lanes) {
                let work = batch.iter().map(|step| apply(&device, step, size, aligned));
                for done in futures::future::join_all(work).await {
                    done.unwrap();
                }
                assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None);
            }
            let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
            assert_eq!(device.settle().await.unwrap(), naive);
        });
    }
}

async fn apply(
    device: &ProvingDevice,
    step: &Step,
    size: usize,
    aligned: bool,
) -> Result<(), BlockError> {
    let place = |at: &prop::sample::Index, len: usize| {
        let at = at.index(size);
        let at = if aligned { at / 4_096 * 4_096 } else { at };
        (at as u64, len.min(size - at))
    };
    match step {
        Step::Write(at, len, seed) => {
            let (at, len) = place(at, *len);
            device.write_at(at, Bytes::from(Oracle::new(*seed).block(0, 1, len))).await
        }
        Step::Zero(at, len) => {
            let (at, len) = place(at, *len);
            device.write_zeroes(at, len as u64).await
        }
        // It fails when a write of the same batch meets it, and has to leave the truth behind all the same.
        Step::Settle => device.settle().await.map(drop).or(Ok(())),
    }
}

#[tokio::test]
async fn whole_blocks_are_known_at_once_and_parts_are_not() {
    let image = memory(vec![0; 3 * 4_096 + 512]);
    let (device, table) = proving(&image);
    device.write_at(4_096, Bytes::from(vec![1; 4_096])).await.unwrap();
    device.write_at(3 * 4_096, Bytes::from(vec![2; 512])).await.unwrap();
    assert_eq!(table.get(1).unwrap(), Digest::of(&[1; 4_096]));
    assert_eq!(table.get(3).unwrap(), Digest::of(&[2; 512]));
    device.write_at(4_096 + 512, Bytes::from(vec![3; 512])).await.unwrap();
    device.write_zeroes(3 * 4_096, 512).await.unwrap();
    assert_eq!(table.get(1).unwrap(), Digest::UNKNOWN);
    assert_eq!(table.get(3).unwrap(), Digest::ZERO);
    device.settle().await.unwrap();
    assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None);
    assert_ne!(table.get(1).unwrap(), Digest::UNKNOWN);
    assert_eq!(device.bytes_written(), 4_096 + 512 + 512);
}

#[tokio::test]
async fn a_delta_starts_from_the_parents_table() {
    let oracle = Oracle::new(3);
    let mut content = oracle.disk(10_000, 4_096, 1);
    let parent = table_of(&content, BlockSize::MIN).unwrap();
    content.resize(20_000, 0);
    let image = memory(content);
    let (device, table) = proving(&image);
    table.copy_from(&parent).unwrap();
    device.write_at(4_096, Bytes::from(oracle.block(1, 2, 4_096))).await.unwrap();
    let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
    assert_eq!(device.settle().await.unwrap(), naive);
}

#[tokio::test]
async fn refused_writes_change_nothing() {
    let image = memory(vec![0; 8_192]);
    let (device, table) = proving(&image);
    let out = device.write_at(4_096, Bytes::from(vec![1; 4_097])).await;
    assert!(matches!(out, Err(BlockError::OutOfRange { .. })));
    let out = device.write_zeroes(u64::MAX, 2).await;
    assert!(matches!(out, Err(BlockError::OutOfRange { .. })));
    assert_eq!(table.get_many(0, 2).unwrap(), [Digest::ZERO; 2]);

    let closed = Arc::new(MemoryDevice::new_read_only(vec![0; 8_192]));
    let device = ProvingDevice::new(closed, table.clone());
    let out = device.write_at(0, Bytes::from(vec![1; 4_096])).await;
    assert!(matches!(out, Err(BlockError::ReadOnly)));
    assert_eq!(table.get(0).unwrap(), Digest::ZERO);
}

/// Fails the n-th operation for every n: what failed is unknown until it is written again or read back.
#[tokio::test]
async fn a_failed_write_is_not_taken_for_content() {
    let content = Oracle::new(4).mixed(6 * 4_096, 4_096, &[1, 0, 2]);
    let naive = table_of(&content, BlockSize::MIN).unwrap().root().unwrap();
    for n in 1..=6 {
        let image = memory(vec![0; content.len()]);
        let faulty = Arc::new(FaultyDevice::new(seam(&image), FaultPlan::IoErrorAt(n)));
        let table = DigestTable::temporary(image.size(), BlockSize::MIN).unwrap();
        let table = Arc::new(table);
        let device = ProvingDevice::new(faulty, table.clone());
        for (index, block) in content.chunks(4_096).enumerate() {
            let at = index as u64 * 4_096;
            let block = Bytes::copy_from_slice(block);
            if device.write_at(at, block.clone()).await.is_err() {
                assert_eq!(index as u64 + 1, n);
                assert_eq!(table.get(index as u64).unwrap(), Digest::UNKNOWN);
                assert!(table.root().is_err());
                device.write_at(at, block).await.unwrap();
            }
        }
        assert_eq!(device.settle().await.unwrap(), naive);
    }
}

#[tokio::test]
async fn zeroes_that_failed_are_not_taken_for_zeroes() {
    let image = memory(vec![0; 8_192]);
    let faulty = Arc::new(FaultyDevice::new(seam(&image), FaultPlan::IoErrorAt(2)));
    let table = Arc::new(DigestTable::temporary(8_192, BlockSize::MIN).unwrap());
    let device = ProvingDevice::new(faulty, table.clone());
    device.write_at(0, Bytes::from(vec![1; 8_192])).await.unwrap();
    device.write_zeroes(0, 4_096).await.unwrap_err();
    assert_eq!(table.get(0).unwrap(), Digest::UNKNOWN);
    let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
    assert_eq!(device.settle().await.unwrap(), naive);
}

#[tokio::test]
async fn a_block_that_cannot_be_read_back_leaves_no_root() {
    let image = memory(vec![0; 8_192]);
    let faulty = Arc::new(FaultyDevice::new(seam(&image), FaultPlan::IoErrorAt(2)));
    let table = DigestTable::temporary(8_192, BlockSize::MIN).unwrap();
    let device = ProvingDevice::new(faulty, Arc::new(table));
    device.write_at(100, Bytes::from(vec![1; 100])).await.unwrap();
    assert!(matches!(device.settle().await, Err(BlockError::Io(_))));
    let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
    assert_eq!(device.settle().await.unwrap(), naive);
}

/// A device whose writes wait for a permit, so that a test decides when each of them lands.
struct Gated {
    inner: Arc<MemoryDevice>,
    arrived: tokio::sync::Semaphore,
    gate: tokio::sync::Semaphore,
}

#[async_trait]
impl BlockDevice for Gated {
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
        self.arrived.add_permits(1);
        let permit = self.gate.acquire().await;
        permit.map_err(|error| BlockError::Io(io::Error::other(error)))?.forget();
        self.inner.write_at(offset, data).await
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

fn gated() -> (Arc<Gated>, Arc<MemoryDevice>) {
    let inner = memory(vec![0; 8_192]);
    let closed = || tokio::sync::Semaphore::new(0);
    (Arc::new(Gated { inner: inner.clone(), arrived: closed(), gate: closed() }), inner)
}

/// Two writes to one block at the same time: nobody can know which one the block holds, so it is read.
#[tokio::test]
async fn writes_that_overlap_are_settled_by_reading() {
    let (gate, image) = gated();
    let table = Arc::new(DigestTable::temporary(8_192, BlockSize::MIN).unwrap());
    let device = Arc::new(ProvingDevice::new(gate.clone(), table.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    for byte in [1, 2] {
        let device = device.clone();
        tasks.spawn(async move { device.write_at(0, Bytes::from(vec![byte; 4_096])).await });
    }
    gate.arrived.acquire_many(2).await.unwrap().forget();
    gate.gate.add_permits(2);
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(table.get(0).unwrap(), Digest::UNKNOWN);
    let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
    assert_eq!(device.settle().await.unwrap(), naive);
}

/// A connection is cut, its write is dropped, and settling still waits for where the write ends.
#[tokio::test]
async fn a_dropped_write_goes_on_to_its_end() {
    let (gate, image) = gated();
    let table = Arc::new(DigestTable::temporary(8_192, BlockSize::MIN).unwrap());
    let device = ProvingDevice::new(gate.clone(), table.clone());
    tokio::select! {
        biased;
        done = device.write_at(0, Bytes::from(vec![1; 4_096])) => panic!("{done:?}"),
        arrived = gate.arrived.acquire() => arrived.unwrap().forget(),
    }
    assert_eq!(table.get(0).unwrap(), Digest::UNKNOWN);
    gate.gate.add_permits(1);
    let root = device.settle().await.unwrap();
    assert_eq!(image.snapshot()[..4_096], [1; 4_096]);
    assert_eq!(root, table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap());
    assert_eq!(device.bytes_written(), 4_096);
}

/// Zeroing a large disk costs no table, and leaves none behind.
#[tokio::test]
async fn large_zeroes_go_in_bounded_steps() {
    let folder = tempfile::tempdir().unwrap();
    let size = (3 << 30) + 512;
    let file = hub_block::RawFile::create_new(&folder.path().join("image"), size).unwrap();
    let table = Arc::new(DigestTable::temporary(size, BlockSize::USUAL).unwrap());
    let device = ProvingDevice::new(Arc::new(file), table.clone());
    device.write_at(1 << 30, Bytes::from(vec![1; 65_536])).await.unwrap();
    device.write_zeroes(0, size).await.unwrap();
    let empty = DigestTable::temporary(size, BlockSize::USUAL).unwrap();
    assert_eq!(device.settle().await.unwrap(), empty.root().unwrap());
}

/// The table is a file: while its file system stalls, the threads that serve all other connections must not.
#[test]
fn a_table_that_stalls_holds_up_no_other_connection() {
    let image = memory(vec![0; 8_192]);
    let (device, _) = proving(&image);
    let shared = device.shared.clone();
    let (stalled, is_stalled) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let stall = std::thread::spawn(move || {
        let _held = shared.under_way.lock();
        stalled.send(()).unwrap();
        may_go_on.recv_timeout(std::time::Duration::from_secs(120)).is_ok()
    });
    is_stalled.recv().unwrap();
    block_on(async {
        let write = device.write_at(0, Bytes::from(vec![1; 4_096]));
        let zero = device.write_zeroes(4_096, 4_096);
        let others = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let _ = go_on.send(());
        };
        let (written, zeroed, ()) = tokio::join!(write, zero, others);
        written.and(zeroed).unwrap();
    });
    assert!(stall.join().unwrap(), "nothing else ran while the table stalled");
}

/// An image whose face for busy threads works, cannot without waiting, and fails, in turns.
struct Moody {
    inner: Arc<MemoryDevice>,
    turn: AtomicU64,
}

#[async_trait]
impl BlockDevice for Moody {
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
        self.inner.write_at(offset, data).await
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
    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self)
    }
}

impl BlockingDevice for Moody {
    fn read_now(&self, _: u64, _: u32) -> Option<Result<Bytes, BlockError>> {
        None
    }
    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>> {
        match self.turn.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => self.inner.write_now(offset, data),
            1 => None,
            _ => Some(self.inner.write_now(offset, &data[..100])?.and(Err(BlockError::NoSpace))),
        }
    }
}

#[tokio::test]
async fn an_image_that_cannot_at_once_is_written_all_the_same_and_one_that_fails_is_not_believed() {
    let content = Oracle::new(5).disk(9 * 4_096, 4_096, 1);
    let image = memory(vec![0; content.len()]);
    let moody = Arc::new(Moody { inner: image.clone(), turn: AtomicU64::new(0) });
    let table = Arc::new(DigestTable::temporary(image.size(), BlockSize::MIN).unwrap());
    let device = ProvingDevice::new(moody, table.clone());
    for (block, bytes) in (0..).zip(content.chunks(4_096)) {
        let done = device.write_at(block * 4_096, Bytes::copy_from_slice(bytes)).await;
        let known = if block % 3 == 2 {
            assert!(matches!(done, Err(BlockError::NoSpace)));
            Digest::UNKNOWN
        } else {
            done.unwrap();
            Digest::of(bytes)
        };
        assert_eq!(table.get(block).unwrap(), known, "{block}");
    }
    assert_eq!(first_lie(&table, &image.snapshot()).unwrap(), None);
    let naive = table_of(&image.snapshot(), BlockSize::MIN).unwrap().root().unwrap();
    assert_eq!(device.settle().await.unwrap(), naive);
    assert_eq!(device.bytes_written(), 6 * 4_096);
}
