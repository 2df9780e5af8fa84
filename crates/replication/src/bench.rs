//! The engine over doubles, with one VM of two disks under management.

use std::sync::Arc;

use anyhow::Context;
use hub_domain::disk::VmDisk;
use hub_domain::disk_sync::plan_disk_sync;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::JobStatus;
use hub_domain::replication::{ReplicaFormat, ReplicationJob, ReplicationKind};
use hub_domain::time::Timestamp;
use hub_domain::vm::{VmAddress, VmContext};
use hub_ports::{RateReadings, Store};
use hub_testkit::{FakeVma, FixedClock, MemReplicaStorage, MemStore, SeqIds, Steps, fixtures};
use tokio_util::sync::CancellationToken;

use crate::{Options, Replication, StartReplication};

/// Everything that a test touches.
pub(crate) struct Bench {
    pub(crate) replication: Replication,
    pub(crate) store: Arc<MemStore>,
    pub(crate) vma: Arc<FakeVma>,
    pub(crate) storage: Arc<MemReplicaStorage>,
    pub(crate) steps: Steps,
    pub(crate) cancel: CancellationToken,
    pub(crate) vm: VmContext,
}

impl Bench {
    /// A VM with its disk rows, or a legacy one without.
    pub(crate) async fn new(with_disks: bool) -> anyhow::Result<Self> {
        let steps = Steps::default();
        let store = Arc::new(MemStore::with_steps(steps.clone()));
        let storage = Arc::new(MemReplicaStorage::with_steps(steps.clone()));
        let seen = fixtures::pgtest1()?;
        let inventory = fixtures::inventory(vec![seen.clone()]);
        let vma = Arc::new(FakeVma::with_steps(inventory, steps.clone()));
        let node = fixtures::vma_node(1, "vma1");
        let vm = fixtures::vm_context(1, seen.facts, Some(node.id));
        let mut work = store.begin().await?;
        work.insert_vma_node(&node).await?;
        work.insert_vms(std::slice::from_ref(&vm)).await?;
        if with_disks {
            let at = Timestamp::UNIX_EPOCH;
            work.insert_disks(&plan_disk_sync(vm.id, &[], &seen.disks, at).add, at).await?;
        }
        work.commit().await?;
        let replication = Replication {
            store: store.clone(),
            source: vma.clone(),
            storage: storage.clone(),
            clock: Arc::new(FixedClock::ticking()),
            ids: Arc::new(SeqIds::default()),
            rates: RateReadings::new(1),
            waits: Default::default(),
            options: Options::default(),
        };
        let cancel = CancellationToken::new();
        Ok(Self { replication, store, vma, storage, steps, cancel, vm })
    }

    pub(crate) fn request(&self, kind: ReplicationKind) -> StartReplication {
        StartReplication {
            vm: VmAddress::Id(self.vm.id),
            kind,
            format: ReplicaFormat::Raw,
            rate: None,
            quiesce: None,
        }
    }

    pub(crate) async fn start(&self, kind: ReplicationKind) -> anyhow::Result<ReplicationJobId> {
        let started = self.replication.start(&self.request(kind)).await?;
        anyhow::ensure!(started.is_new, "the job is new");
        Ok(started.job.id)
    }

    pub(crate) async fn run(&self, job: ReplicationJobId) -> anyhow::Result<JobStatus> {
        Ok(self.replication.run(job, self.cancel.clone()).await?)
    }

    /// Recovers as the next hub does, and runs what waits; how each job ended.
    pub(crate) async fn next_hub(&self) -> anyhow::Result<Vec<JobStatus>> {
        let mut ends = Vec::new();
        for job in self.replication.recover().await?.waiting {
            ends.push(self.replication.run(job, CancellationToken::new()).await?);
        }
        Ok(ends)
    }

    pub(crate) async fn replicate(&self, kind: ReplicationKind) -> anyhow::Result<ReplicationJob> {
        let id = self.start(kind).await?;
        self.run(id).await?;
        self.job(id).await
    }

    pub(crate) async fn job(&self, id: ReplicationJobId) -> anyhow::Result<ReplicationJob> {
        self.store.view().await?.replication(id).await?.context("the job exists")
    }

    pub(crate) async fn disks(&self) -> anyhow::Result<Vec<VmDisk>> {
        Ok(self.store.view().await?.disks_of(&[self.vm.id]).await?)
    }

    /// The word of where the VM stands.
    pub(crate) async fn vm_status(&self) -> anyhow::Result<&'static str> {
        let vm = self.store.view().await?.vm(self.vm.id).await?;
        Ok(vm.context("the VM exists")?.status.word())
    }

    /// No open target, and no copy at work.
    pub(crate) fn assert_nothing_left(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.storage.open_targets().is_empty(), "a target stayed open");
        anyhow::ensure!(self.vma.copying().is_empty(), "a copy still runs at the VMA");
        Ok(())
    }
}
