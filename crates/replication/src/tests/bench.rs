//! An engine over doubles, with the VM of the acceptance stories.

use hub_testkit::Whole as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hub_domain::disk::{NewDisk, VmDisk};
use hub_domain::fault::Fault;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::JobStatus;
use hub_domain::limits::ByteRate;
use hub_domain::replication::{ReplicaFormat, ReplicationJob, ReplicationKind};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmAddress, VmContext};
use hub_ports::{RateReadings, Store};
use hub_testkit::{FakeVma, FixedClock, MemReplicaStorage, MemStore, SeqIds, Steps, fixtures};
use tokio_util::sync::CancellationToken;

use crate::{Options, Replication, StartReplication};

/// Longer than anything that ends by itself; the time of these tests is not real.
pub(super) const AGES: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Bench {
    pub(super) engine: Replication,
    pub(super) store: Arc<MemStore>,
    pub(super) vma: Arc<FakeVma>,
    pub(super) replicas: Arc<MemReplicaStorage>,
    pub(super) steps: Steps,
}

impl Bench {
    /// `pgtest1` as discovery stores it: two disk rows without a job.
    pub(super) async fn new() -> Result<Self> {
        let bench = Self::legacy(1).await?;
        let mut work = bench.store.begin().await?;
        let mut vm = bench.vm().await?;
        vm.vma_node = Some(fixtures::vma_node(1, "vma1").id);
        work.update_vm(&vm).await?;
        let new = |(ordinal, facts)| NewDisk { vm: vm.id, ordinal, facts };
        let disks: Vec<NewDisk> = (0..).zip(fixtures::pgtest1()?.disks).map(new).collect();
        work.insert_disks(&disks, Timestamp::UNIX_EPOCH).await?;
        work.commit().await?;
        bench.steps.heal();
        Ok(bench)
    }

    /// `pgtest1` as an older catalogue has it, without disk rows and without a VMA; and this many VMAs.
    pub(super) async fn legacy(vmas: u128) -> Result<Self> {
        let steps = Steps::default();
        let store = Arc::new(MemStore::with_steps(steps.clone()));
        let seen = fixtures::inventory(vec![fixtures::pgtest1()?]);
        let vma = Arc::new(FakeVma::with_steps(seen, steps.clone()));
        let replicas = Arc::new(MemReplicaStorage::with_steps(steps.clone()));
        let mut work = store.begin().await?;
        for number in 1..=vmas {
            work.insert_vma_node(&fixtures::vma_node(number, &format!("vma{number}"))).await?;
        }
        let vm = fixtures::vm_context(77, fixtures::pgtest1()?.facts, None);
        work.insert_vms(&[vm]).await?;
        work.commit().await?;
        steps.heal();
        let mut options = Options::default();
        options.watch.unreachable_timeout = Duration::from_secs(10);
        options.watch.stall_timeout = Duration::from_secs(10);
        options.watch.poll_interval = Duration::from_secs(1);
        let engine = Replication {
            store: store.clone(),
            source: vma.clone(),
            storage: replicas.clone(),
            clock: Arc::new(FixedClock::ticking()),
            ids: Arc::new(SeqIds::default()),
            rates: RateReadings::new(1),
            waits: Default::default(),
            options,
        };
        Ok(Self { engine, store, vma, replicas, steps })
    }

    /// Changes what the VMA may send.
    pub(super) async fn limit_vma(&self, rate: Option<ByteRate>) -> Result<()> {
        let mut work = self.store.begin().await?;
        let mut node = work.vma_nodes().await?.whole()?.pop().context("a VMA")?;
        node.limits.rate = rate;
        work.update_vma_node(&node).await?;
        Ok(work.commit().await?)
    }

    pub(super) async fn start(&self, kind: ReplicationKind) -> Result<ReplicationJob> {
        let crate::Started { job, is_new: new } = self.engine.start(&request(kind)).await?;
        anyhow::ensure!(new, "a job was at work already");
        Ok(job)
    }

    /// Runs a job to its end, and returns how it ended.
    pub(super) async fn run(&self, id: ReplicationJobId) -> Result<ReplicationJob> {
        self.engine.run(id, CancellationToken::new()).await?;
        self.job(id).await
    }

    /// Recovers as the next hub does, and runs what waits; how each job ended.
    pub(super) async fn next_hub(&self) -> Result<Vec<JobStatus>> {
        let mut ends = Vec::new();
        for job in self.engine.recover().await?.waiting {
            ends.push(self.engine.run(job, CancellationToken::new()).await?);
        }
        Ok(ends)
    }

    /// A whole replication.
    pub(super) async fn replicate(&self, kind: ReplicationKind) -> Result<ReplicationJob> {
        let job = self.start(kind).await?;
        self.run(job.id).await
    }

    pub(super) async fn job(&self, id: ReplicationJobId) -> Result<ReplicationJob> {
        self.store.view().await?.replication(id).await?.context("the job is stored")
    }

    pub(super) async fn jobs(&self) -> Result<Vec<ReplicationJob>> {
        Ok(self.store.view().await?.replications_page(None, None, 500).await?.whole()?)
    }

    pub(super) async fn vm(&self) -> Result<VmContext> {
        let mut all = self.store.view().await?.vms_named("pgtest1").await?;
        all.pop().context("the VM is stored")
    }

    pub(super) async fn disks(&self) -> Result<Vec<VmDisk>> {
        let vm = self.vm().await?.id;
        Ok(self.store.view().await?.disks_of(&[vm]).await?)
    }

    /// Ids and jobs of the disk rows.
    pub(super) async fn links(&self) -> Result<Vec<(i64, Option<ReplicationJobId>)>> {
        Ok(self.disks().await?.iter().map(|disk| (disk.id.as_raw(), disk.job)).collect())
    }

    pub(super) async fn standing(&self) -> Result<ContextStatus> {
        Ok(self.vm().await?.status)
    }

    /// Nothing of any job is left: no target, no copy, no VM that seems to replicate, and no row too many.
    pub(super) async fn is_tidy(&self) -> Result<()> {
        let (open, copying) = (self.replicas.open_targets(), self.vma.copying());
        anyhow::ensure!(open.is_empty(), "targets are open: {open:?}");
        anyhow::ensure!(copying.is_empty(), "the VMA still copies: {copying:?}");
        anyhow::ensure!(self.standing().await? != ContextStatus::Replicating, "it replicates");
        for job in self.jobs().await? {
            anyhow::ensure!(job.state.status().is_terminal(), "{job:?}");
        }
        anyhow::ensure!(self.disks().await?.len() <= 2, "disks were duplicated");
        Ok(())
    }
}

pub(super) fn request(kind: ReplicationKind) -> StartReplication {
    let vm = VmAddress::Name("pgtest1".to_owned());
    StartReplication { vm, kind, format: ReplicaFormat::Raw, rate: None, quiesce: None }
}

/// Where a job stands, and the code of its fault.
pub(super) fn ended(job: &ReplicationJob) -> (JobStatus, Option<&str>) {
    let code = job.state.fault().map(|fault: &Fault| fault.code.as_str());
    (job.state.status(), code)
}

/// Marks a job as at work, as a hub does that is killed next.
pub(super) async fn begin(bench: &Bench, id: ReplicationJobId) -> Result<()> {
    let mut work = bench.store.begin().await?;
    let mut job = work.replication(id).await?.context("the job is stored")?;
    job.state = job.state.apply(hub_domain::job::JobEvent::Started, bench.engine.clock.now())?;
    work.update_replication(&mut job).await?;
    Ok(work.commit().await?)
}
