//! The engine over doubles, with one VM of two disks under management.

use hub_testkit::Whole as _;
use std::sync::Arc;

use anyhow::Context;
use hub_domain::backup::{BackupJob, BackupType};
use hub_domain::disk::VmDisk;
use hub_domain::ids::{BackupRunId, RepositoryId};
use hub_domain::job::JobStatus;
use hub_domain::limits::ByteRate;
use hub_domain::selector::DiskSelector;
use hub_domain::time::Timestamp;
use hub_domain::vm::{VmAddress, VmContext};
use hub_domain::{disk_sync::plan_disk_sync, inventory::SeenVm};
use hub_ports::{RateReadings, Store};
use hub_testkit::{FakeVma, FixedClock, MemBackupStorage, MemStore, SeqIds, Steps, fixtures};
use tokio_util::sync::CancellationToken;

use crate::{Backup, Options, StartBackup};

pub(crate) const FULL: BackupType = BackupType::Full;
pub(crate) const INCREMENTAL: BackupType = BackupType::Incremental;

/// Everything that a test touches.
pub(crate) struct Bench {
    pub(crate) backup: Backup,
    pub(crate) store: Arc<MemStore>,
    pub(crate) vma: Arc<FakeVma>,
    pub(crate) storage: Arc<MemBackupStorage>,
    pub(crate) steps: Steps,
    pub(crate) cancel: CancellationToken,
    pub(crate) vm: VmContext,
    pub(crate) repository: RepositoryId,
}

impl Bench {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let steps = Steps::default();
        let store = Arc::new(MemStore::with_steps(steps.clone()));
        let storage = Arc::new(MemBackupStorage::with_steps(steps.clone()));
        let seen = fixtures::pgtest1()?;
        let inventory = fixtures::inventory(vec![seen.clone()]);
        let vma = Arc::new(FakeVma::with_steps(inventory, steps.clone()));
        let node = fixtures::vma_node(1, "vma1");
        let vm = fixtures::vm_context(1, seen.facts.clone(), Some(node.id));
        let repository = fixtures::repository(1, "main");
        let mut work = store.begin().await?;
        work.insert_vma_node(&node).await?;
        work.insert_repository(&repository).await?;
        work.insert_repository(&fixtures::repository(2, "other")).await?;
        work.commit().await?;
        let backup = Backup {
            store: store.clone(),
            source: vma.clone(),
            storage: storage.clone(),
            clock: Arc::new(FixedClock::ticking()),
            ids: Arc::new(SeqIds::default()),
            rates: RateReadings::new(1),
            waits: Default::default(),
            options: Options::default(),
        };
        let repository = repository.id;
        let cancel = CancellationToken::new();
        let bench = Self { backup, store, vma, storage, steps, cancel, vm, repository };
        bench.manage(&bench.vm, &seen).await?;
        Ok(bench)
    }

    /// Stores a VM with its disks.
    pub(crate) async fn manage(&self, vm: &VmContext, seen: &SeenVm) -> anyhow::Result<()> {
        let at = Timestamp::UNIX_EPOCH;
        let mut work = self.store.begin().await?;
        work.insert_vms(std::slice::from_ref(vm)).await?;
        work.insert_disks(&plan_disk_sync(vm.id, &[], &seen.disks, at).add, at).await?;
        work.commit().await?;
        Ok(())
    }

    pub(crate) fn request(&self, backup_type: BackupType) -> StartBackup {
        StartBackup {
            vm: VmAddress::Id(self.vm.id),
            disks: DiskSelector::All,
            backup_type,
            repository: self.repository,
            policy: None,
            tags: Vec::new(),
            rate: None,
            audit_runs: None,
            quiesce: None,
        }
    }

    /// Changes what the VMA of the VM may send.
    pub(crate) async fn limit_vma(&self, rate: Option<ByteRate>) -> anyhow::Result<()> {
        let mut work = self.store.begin().await?;
        let mut node = work.vma_nodes().await?.whole()?.pop().context("a VMA")?;
        node.limits.rate = rate;
        work.update_vma_node(&node).await?;
        work.commit().await?;
        Ok(())
    }

    pub(crate) async fn start(&self, backup_type: BackupType) -> anyhow::Result<BackupRunId> {
        let started = self.backup.start(&self.request(backup_type)).await?;
        anyhow::ensure!(started.is_new, "the run is new");
        Ok(started.run.id)
    }

    pub(crate) async fn run(&self, run: BackupRunId) -> anyhow::Result<JobStatus> {
        Ok(self.backup.run(run, self.cancel.clone()).await?)
    }

    /// Recovers as the next hub does, and runs what waits; how each run ended.
    pub(crate) async fn next_hub(&self) -> anyhow::Result<Vec<JobStatus>> {
        let mut ends = Vec::new();
        for run in self.backup.recover().await?.waiting {
            ends.push(self.backup.run(run, CancellationToken::new()).await?);
        }
        Ok(ends)
    }

    pub(crate) async fn back_up(&self, backup_type: BackupType) -> anyhow::Result<JobStatus> {
        self.run(self.start(backup_type).await?).await
    }

    /// All jobs, in the order of their making.
    pub(crate) async fn jobs(&self) -> anyhow::Result<Vec<BackupJob>> {
        let filter = hub_ports::store::BackupFilter::default();
        Ok(self.store.view().await?.backups_page(&filter, None, 500).await?.whole()?)
    }

    pub(crate) async fn disks(&self) -> anyhow::Result<Vec<VmDisk>> {
        Ok(self.store.view().await?.disks_of(&[self.vm.id]).await?)
    }

    /// No partial image, no copy at work, and the chain rows say what the points say.
    pub(crate) async fn assert_nothing_left(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.storage.partial_images().is_empty(), "a partial image stayed");
        anyhow::ensure!(self.vma.copying().is_empty(), "a copy still runs at the VMA");
        for chain in self.store.view().await?.chains_of_vm(self.vm.id).await?.whole()? {
            let mut view = self.store.view().await?;
            let points = view.backups_of_chain(chain.key).await?;
            let expected = hub_domain::chain::summarise_chain(chain.key, &points);
            anyhow::ensure!(expected.context("no point")? == chain, "the chain row is stale");
        }
        Ok(())
    }
}
