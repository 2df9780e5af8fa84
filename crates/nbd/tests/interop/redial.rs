//! Connections that are lost in the middle: a copy goes on, sends little again, and never mixes content.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, MemoryDevice};
use hub_data_mover::{
    BlockSize, CopyOptions, CopyPlan, Digest, DigestTable, Progress, ProvingDevice, copy,
};
use hub_nbd::{
    ClientOptions, Endpoint, GivenUp, RedialCounts, RedialOptions, RedialingClient, ServerOptions,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::proxy::{Fault, Proxy};
use crate::served::{Gated, Served, memory, pattern, until, within};
use crate::tools::{present, spawn, text};

const BLOCK: usize = 64 << 10;
const SOON: Duration = Duration::from_millis(500);

fn hasty() -> RedialOptions {
    let pause = Duration::from_millis(1);
    RedialOptions {
        patience: Duration::from_secs(60),
        first_pause: pause,
        longest_pause: 10 * pause,
    }
}

fn options(io_timeout: Duration) -> ClientOptions {
    ClientOptions { io_timeout, max_request: 128 << 10, ..ClientOptions::default() }
}

async fn dial(
    endpoint: &Endpoint,
    options: ClientOptions,
    redial: RedialOptions,
) -> Result<(Arc<RedialingClient>, Arc<RedialCounts>)> {
    let counts = Arc::new(RedialCounts::default());
    let client = RedialingClient::connect(endpoint, "one", options, redial, counts.clone()).await?;
    Ok((Arc::new(client), counts))
}

fn table_of(content: &[u8]) -> Result<Arc<DigestTable>> {
    let table =
        DigestTable::temporary(content.len() as u64, BlockSize::new(u32::try_from(BLOCK)?)?)?;
    for (block, bytes) in (0..).zip(content.chunks(BLOCK)) {
        table.set(block, Digest::of(bytes))?;
    }
    Ok(Arc::new(table))
}

/// Content with data, holes and an odd end.
fn disk() -> Vec<u8> {
    let mut content = pattern((8 << 20) + 4096);
    content[BLOCK * 20..BLOCK * 30].fill(0);
    content
}

/// Copies a disk through a network with these faults and holds the target to the source.
async fn copy_through(faults: Vec<(u64, Fault)>) -> Result<(u64, Vec<Fault>)> {
    let (request_bytes, in_flight) = (128 << 10, 8);
    let content = disk();
    let image = memory(content.len());
    let empty = table_of(&vec![0; content.len()])?;
    let proving = Arc::new(ProvingDevice::new(image.clone(), empty));
    let served = Served::start(ServerOptions::default()).await?;
    // Sessions of lost connections keep their places until what they had begun is done.
    let handle = served.offer_to("one", proving.clone(), 64)?;
    let faultless = faults.is_empty();
    let proxy = Proxy::start(served.addr, faults).await?;
    // Without a fault nothing is lost, however long a busy machine takes for an answer.
    let io_timeout = if faultless { hasty().patience } else { SOON };
    let (client, counts) = dial(&proxy.endpoint(), options(io_timeout), hasty()).await?;
    let source = Arc::new(MemoryDevice::new_read_only(content.clone()));
    let copied = copy(
        source,
        client,
        CopyPlan::Full,
        table_of(&content)?,
        CopyOptions { request_bytes, in_flight, on_range: None },
        Arc::new(Progress::default()),
        Default::default(),
    );
    let outcome = within("the copy", copied).await??;
    handle.close().await;
    let stored = proving.settle().await?;
    ensure!(image.snapshot() == content, "the target has other bytes than the source");
    ensure!(stored == outcome.root, "the proofs disagree");
    let window = u64::from(request_bytes) * in_flight as u64;
    let (redials, again) = (counts.redials(), counts.bytes_again());
    ensure!(again <= redials * window, "{again} bytes again after {redials} losses");
    Ok((redials, proxy.happened()))
}

/// Promise P5, trap U29: cuts, half-closed and silent connections at random places, and the copy arrives.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_copy_survives_a_network_that_breaks_at_random() {
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut fault = || {
            let fault = match random.random_range(0..5) {
                0 | 1 => Fault::Cut,
                2 | 3 => Fault::HalfClose,
                _ => Fault::Swallow,
            };
            (random.random_range(1..2 << 20), fault)
        };
        let faults: Vec<_> = (0..4).map(|_| fault()).collect();
        let copied = copy_through(faults).await;
        let (redials, happened) = copied.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        assert!(!happened.is_empty(), "seed {seed}: nothing broke");
        assert!(redials > 0, "seed {seed}: {happened:?} were not noticed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_nothing_is_sent_twice() {
    let (redials, happened) = copy_through(Vec::new()).await.unwrap();
    assert_eq!((redials, happened), (0, Vec::new()));
}

/// Holds its first write back until it is let go, while all others pass it.
struct HeldFirst {
    inner: Arc<MemoryDevice>,
    held: tokio::sync::Mutex<bool>,
    arrived: Notify,
    go: Notify,
    landed: Notify,
}

impl HeldFirst {
    fn new(len: usize) -> Arc<Self> {
        let (arrived, go, landed) = Default::default();
        Arc::new(Self {
            inner: memory(len),
            held: tokio::sync::Mutex::new(false),
            arrived,
            go,
            landed,
        })
    }
}

#[async_trait]
impl BlockDevice for HeldFirst {
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
        let first = !std::mem::replace(&mut *self.held.lock().await, true);
        if first {
            self.arrived.notify_one();
            self.go.notified().await;
        }
        let written = self.inner.write_at(offset, data).await;
        if first {
            self.landed.notify_one();
        }
        written
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.write_zeroes(offset, len).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// The first copy of a write is still at work at the server when the second one arrives and is acknowledged; even a
/// caller that breaks the rule and writes the range again meanwhile gets digests of what is really stored.
async fn a_late_first_copy(later: Option<u8>) -> Result<()> {
    let device = HeldFirst::new(4 * BLOCK);
    let proving = Arc::new(ProvingDevice::new(device.clone(), table_of(&vec![0; 4 * BLOCK])?));
    let served = Served::start(ServerOptions::default()).await?;
    let handle = served.offer("one", proving.clone())?;
    let proxy = Proxy::start(served.addr, Vec::new()).await?;
    let (client, counts) = dial(&proxy.endpoint(), options(SOON), hasty()).await?;
    let write = client.write_at(0, Bytes::from(vec![1; BLOCK]));
    let lose = async {
        within("the write to begin", device.arrived.notified()).await?;
        proxy.set_black_hole(true);
        let lost = || client.write_at(0, Bytes::new());
        drop(tokio::time::timeout(2 * SOON, lost()).await);
        proxy.set_black_hole(false);
        anyhow::Ok(())
    };
    let (written, lost) = tokio::join!(within("the write", write), lose);
    written??;
    lost?;
    ensure!(counts.redials() > 0 && counts.bytes_again() >= BLOCK as u64, "{counts:?}");
    if let Some(byte) = later {
        client.write_at(0, Bytes::from(vec![byte; BLOCK])).await?;
    }
    client.flush().await?;
    device.go.notify_one();
    within("the first copy to land", device.landed.notified()).await?;
    handle.close().await;
    let root = proving.settle().await?;
    let stored = device.inner.snapshot();
    ensure!(stored[..BLOCK] == [1; BLOCK], "the first copy landed last");
    ensure!(root == table_of(&stored)?.root()?, "the digests are of other bytes than the stored");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_executed_twice_and_late_changes_nothing() {
    a_late_first_copy(None).await.unwrap();
}

/// What was stored is then not what was sent, and the proof at both ends shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_over_later_bytes_is_never_taken_for_them() {
    a_late_first_copy(Some(2)).await.unwrap();
}

/// Traps D5 and U29: a network that swallows everything is noticed by the deadline, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_noticed_and_named() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let _handle = served.offer("one", memory(BLOCK)).unwrap();
    let proxy = Proxy::start(served.addr, Vec::new()).await.unwrap();
    // As patient as what comes before the hole may need on a busy machine.
    let limit = 4 * SOON;
    let client = ClientOptions { connect_timeout: limit, ..options(limit) };
    let redial = RedialOptions { patience: 2 * limit, ..hasty() };
    let (client, _) = dial(&proxy.endpoint(), client, redial).await.unwrap();
    client.write_at(0, Bytes::from(vec![1; 512])).await.unwrap();
    proxy.set_black_hole(true);
    let lost = within("the loss", client.write_at(0, Bytes::from(vec![2; 512]))).await.unwrap();
    let Err(BlockError::Disconnected(reason)) = lost else { panic!("{lost:?}") };
    assert!(reason.contains(&proxy.addr.to_string()), "{reason}");
    assert!(reason.contains("nothing succeeded for 4s"), "{reason}");
    assert!(matches!(client.given_up(), Some(GivenUp::Lost { .. })), "{:?}", client.given_up());
    // Given up once is given up for good: no call waits again.
    proxy.set_black_hole(false);
    assert!(matches!(client.flush().await, Err(BlockError::Disconnected(_))));
}

/// A server that greets and then never answers is not dialled for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_dials_and_no_requests_is_given_up() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let device = Gated::new(BLOCK);
    let _handle = served.offer_to("one", device.clone(), 64).unwrap();
    let redial = RedialOptions { patience: 10 * SOON, ..hasty() };
    let (client, counts) = dial(&served.endpoint(), options(SOON), redial).await.unwrap();
    let lost = within("the end", client.read_at(0, 512)).await.unwrap();
    assert!(matches!(lost, Err(BlockError::Disconnected(_))), "{lost:?}");
    assert!(counts.redials() > 0, "{counts:?}");
    device.gate.close();
}

/// A server that was restarted does not know the export: that is final, however patient the client is.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_gone_is_not_dialled_for_ever() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", memory(BLOCK)).unwrap();
    let patient = RedialOptions { patience: Duration::from_secs(3600), ..hasty() };
    let (client, _) = dial(&served.endpoint(), options(SOON), patient).await.unwrap();
    client.write_at(0, Bytes::from(vec![1; 512])).await.unwrap();
    drop(handle);
    let lost = within("the answer", client.write_at(0, Bytes::from(vec![2; 512]))).await.unwrap();
    assert!(matches!(lost, Err(BlockError::Disconnected(_))), "{lost:?}");
    let peer = served.endpoint().to_string();
    assert_eq!(client.given_up(), Some(GivenUp::Gone { peer }));

    // Another disk under the same name is not the same export.
    let handle = served.offer("one", memory(BLOCK)).unwrap();
    let (client, _) = dial(&served.endpoint(), options(SOON), patient).await.unwrap();
    handle.close().await;
    let _other = served.offer("one", memory(2 * BLOCK)).unwrap();
    let lost = within("the answer", client.read_at(0, 512)).await.unwrap();
    assert!(matches!(lost, Err(BlockError::Disconnected(_))), "{lost:?}");
    assert!(matches!(client.given_up(), Some(GivenUp::Gone { .. })));
}

/// A call that is dropped while it dials leaves the client whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_while_it_dials_leaves_the_client_whole() {
    let served = Served::start(ServerOptions::default()).await.unwrap();
    let handle = served.offer("one", memory(BLOCK)).unwrap();
    let proxy = Proxy::start(served.addr, Vec::new()).await.unwrap();
    let (client, counts) = dial(&proxy.endpoint(), options(SOON), hasty()).await.unwrap();
    proxy.set_black_hole(true);
    let early = tokio::time::timeout(3 * SOON, client.read_at(0, 512)).await;
    assert!(early.is_err(), "{early:?}");
    proxy.set_black_hole(false);
    let read = within("the read", client.read_at(0, 512)).await.unwrap();
    assert_eq!(read.unwrap(), vec![0; 512]);
    assert!(counts.redials() > 0);
    until("old sessions to end", || handle.sessions() <= 2).await.unwrap();
}

/// Without the promise that a flush covers all connections, acknowledged writes may be gone with theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_promise_across_connections_is_not_dialled_again() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let path = text(&socket).unwrap();
    let arguments = ["-f", "-U", path, "--filter=multi-conn", "memory", "1M"];
    let off = "multi-conn-mode=disable";
    let kit = spawn("nbdkit", &[&arguments[..], &[off]].concat(), &socket).await.unwrap();
    let (client, counts) =
        dial(&Endpoint::Unix(socket.clone()), options(SOON), hasty()).await.unwrap();
    client.write_at(0, Bytes::from(vec![1; 512])).await.unwrap();
    drop(kit);
    let lost = within("the loss", client.flush()).await.unwrap();
    assert!(matches!(lost, Err(BlockError::Disconnected(_))), "{lost:?}");
    assert!(matches!(client.given_up(), Some(GivenUp::NoPromise { .. })), "{counts:?}");
}
