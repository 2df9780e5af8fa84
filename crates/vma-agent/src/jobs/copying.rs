//! The work of a job: open the source once, copy its disks, prove what was read.

mod audit;
mod chain_audit;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hub_block::BlockDevice;
use hub_block::failpoint::{self, Point};
use hub_data_mover::{
    BlockSize, CopyOptions, CopyPlan, Digest, DigestTable, RateLimit, RateLimited, copy,
};
use hub_nbd::{ClientOptions, Endpoint, RedialingClient};
use hub_vma_api::{CopyDisk, CopyMethod, Fault, NbdTarget, ParentManifest, SnapshotReport};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use self::chain_audit::ChainCheck;
pub(super) use self::chain_audit::both;
use super::check::Check;
use super::fault;
use super::job::{DiskEnd, Job};
use super::request::ValidRequest;
use super::{JobsOptions, Shared};
use crate::source::{Changed, OpenDisk, Snapshot};

/// A hub that is silent for this long in the middle of a request is lost; shorter than what the hub itself bears
/// without progress, so that there is time to dial again.
const HUB_SILENT: Duration = Duration::from_secs(30);

/// Runs a job to its end; every disk has an end when this returns.
pub(super) async fn run(shared: Arc<Shared>, job: Arc<Job>, request: ValidRequest, check: Check) {
    let asked = request.to_open();
    let opening = async {
        check.end().await?;
        shared.source.open(&asked).await
    };
    let opened = tokio::select! {
        biased;
        () = job.cancelled().cancelled() => {
            job.snapshot(left_by_opening(&shared, &job));
            return job.cancel_rest();
        }
        opened = opening => opened,
    };
    let snapshot: Arc<Box<dyn Snapshot>> = match opened {
        Ok(snapshot) => {
            job.snapshot(snapshot.report());
            Arc::new(snapshot)
        }
        Err(error) => {
            tracing::warn!(error = %error, "the source refused");
            job.snapshot(left_by_opening(&shared, &job));
            return job.fail(&fault::of_source(&error));
        }
    };
    if let Err(error) = failpoint::reach(Point::AgentOpened) {
        job.snapshot_is("owed", Some(error.to_string()));
        return job.fail(&fault::of_table(&error));
    }
    let turns = Arc::new(Semaphore::new(shared.options.disks_at_once.max(1)));
    let mut running = JoinSet::new();
    for (index, opened) in snapshot.disks().iter().enumerate() {
        job.disk_read_by(index, opened.read_by);
    }
    for (index, disk) in request.disks().iter().enumerate() {
        let span = tracing::info_span!("copy", disk.id = disk.key);
        let copying = DiskCopy {
            index,
            disk: disk.clone(),
            job: job.clone(),
            snapshot: snapshot.clone(),
            options: shared.options.clone(),
            limits: shared.rates.of(&job),
        };
        running.spawn(copying.run(turns.clone()).instrument(span));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(error = %error, "the copy of a disk ended unexpectedly");
        }
    }
    if let Some(snapshot) = Arc::into_inner(snapshot) {
        match snapshot.close().await {
            Ok(()) => job.snapshot_is("removed", None),
            Err(error) => {
                tracing::warn!(error = %error, "the source could not be closed");
                job.snapshot_is("owed", Some(error.to_string()));
            }
        }
    }
}

/// What is told of the snapshot of an opening that came to nothing: there is none, unless it was begun.
fn left_by_opening(shared: &Shared, job: &Job) -> Option<SnapshotReport> {
    if !shared.source.takes_snapshots() {
        return None;
    }
    let told = |state: &str, reason: Option<&str>| SnapshotReport {
        state: state.to_owned(),
        reason: reason.map(str::to_owned),
        ..SnapshotReport::default()
    };
    let reason = "the job ended while its snapshot was taken; it is removed as soon as it is there";
    let owes = shared.source.owes(job.id());
    Some(if owes { told("owed", Some(reason)) } else { told("none", None) })
}

/// The copy of one disk.
struct DiskCopy {
    index: usize,
    disk: CopyDisk,
    job: Arc<Job>,
    snapshot: Arc<Box<dyn Snapshot>>,
    options: JobsOptions,
    limits: Vec<Arc<RateLimit>>,
}

impl DiskCopy {
    /// Waits for a turn, copies, and reports; being cancelled drops whatever is under way.
    async fn run(self, turns: Arc<Semaphore>) {
        let work = async {
            let _turn = turns.acquire().await.map_err(|_| fault::internal())?;
            let opened = self.snapshot.reader(self.index).await;
            let device = opened.map_err(|error| fault::of_source(&error))?;
            let changed = self.changed().await;
            let chain = self.chain_to_audit().await.transpose();
            self.job.disk_started(self.index);
            self.copy(device, changed, chain).await
        };
        let end = tokio::select! {
            biased;
            () = self.job.cancelled().cancelled() => DiskEnd::Cancelled,
            ended = work => ended.unwrap_or_else(DiskEnd::Failed),
        };
        if let DiskEnd::Failed(Fault { code, detail }) = &end {
            tracing::warn!(code, detail, "a disk was not copied");
        }
        self.job.disk_ended(self.index, end);
    }

    /// What the source says has changed, where that is asked for: before the disk counts as begun, because nothing
    /// moves meanwhile.
    async fn changed(&self) -> Option<Changed> {
        match &self.disk.method {
            CopyMethod::ChangedSince { change_id } if !self.has_grown() => {
                Some(self.snapshot.changed_since(self.index, change_id).await)
            }
            CopyMethod::ChangedSince { .. } | CopyMethod::Full | CopyMethod::ByDigest => None,
        }
    }

    async fn copy(
        &self,
        device: Arc<dyn BlockDevice>,
        changed: Option<Changed>,
        chain: Result<Option<ChainCheck>, String>,
    ) -> Result<DiskEnd, Fault> {
        let source = self.snapshot.disks().get(self.index).ok_or_else(fault::internal)?;
        let target = self.connect(&self.disk.target, self.options.connections).await?;
        failpoint::reach(Point::AgentConnected).map_err(|error| fault::of_table(&error))?;
        self.check_target(&target)?;
        let table = self.table().await?;
        let (chain, not_audited) = match chain {
            Ok(chain) => (chain, None),
            Err(reason) => (None, Some(reason)),
        };
        let plan = self.plan(&device, &table, changed, not_audited).await?;
        let block = BlockSize::new(self.disk.block_size).map_err(|_| fault::internal())?;
        let limited = RateLimited::new(
            target.clone(),
            self.limits.clone(),
            block,
            self.job.progress(self.index),
        );
        let copied = copy(
            device,
            Arc::new(limited),
            plan,
            table.clone(),
            CopyOptions::default(),
            self.job.progress(self.index),
            self.job.cancelled().clone(),
        );
        let outcome = copied.await.map_err(|error| {
            tracing::debug!(error = %fault::chain(&error), "the copy failed");
            target.given_up().map_or_else(|| fault::of_copy(&error), |it| fault::of_loss(&it))
        })?;
        failpoint::reach(Point::AgentCopied).map_err(|error| fault::of_table(&error))?;
        if let Some(target) = Arc::into_inner(target) {
            target.close().await;
        }
        let end = self.prove(source, outcome.root).await?;
        if let Some(chain) = chain {
            self.audit_chain(chain, table).await;
        }
        Ok(end)
    }

    /// What was read counts only if it did not change meanwhile.
    async fn prove(&self, source: &OpenDisk, root: Digest) -> Result<DiskEnd, Fault> {
        let unchanged = self.snapshot.check_unchanged(self.index).await;
        unchanged.map_err(|error| fault::of_source(&error))?;
        let (source_root, change_id) = (root.to_string(), source.change_id.clone());
        Ok(DiskEnd::Succeeded { source_root, change_id })
    }

    async fn connect(
        &self,
        target: &NbdTarget,
        connections: usize,
    ) -> Result<Arc<RedialingClient>, Fault> {
        let security = self.options.hub.security(target)?;
        let endpoint = Endpoint::Tcp { host: target.host.clone(), port: target.port };
        let options = ClientOptions {
            connections,
            io_timeout: HUB_SILENT,
            security,
            ..ClientOptions::default()
        };
        let (redial, counts) = (self.options.redial, self.job.link(self.index));
        let connected =
            RedialingClient::connect(&endpoint, &target.export, options, redial, counts).await;
        connected.map(Arc::new).map_err(|error| fault::of_connect(&error))
    }

    /// Trap D7: a disk is never written to a target of another size.
    fn check_target(&self, target: &RedialingClient) -> Result<(), Fault> {
        if target.read_only() {
            return Err(fault::fault("target/read-only", "the target on the hub is read-only"));
        }
        if target.size() != self.disk.capacity_bytes {
            let detail = format!(
                "the target has {} bytes and the disk {}; run discovery, then start again",
                target.size(),
                self.disk.capacity_bytes
            );
            return Err(fault::fault("target/capacity-mismatch", detail));
        }
        Ok(())
    }

    /// Chooses the method; whatever is doubtful is read in full and compared.
    async fn plan(
        &self,
        source: &Arc<dyn BlockDevice>,
        table: &DigestTable,
        changed: Option<Changed>,
        not_audited: Option<String>,
    ) -> Result<CopyPlan, Fault> {
        let (plan, reason) = match &self.disk.method {
            CopyMethod::Full => (CopyPlan::Full, None),
            CopyMethod::ByDigest => (CopyPlan::ByDigest, None),
            CopyMethod::ChangedSince { change_id } => match (changed, self.disk.audit) {
                (None, _) => (
                    CopyPlan::ByDigest,
                    Some("the disk has grown since its parent was made".to_owned()),
                ),
                (Some(Changed::Areas(areas)), Some(order)) => {
                    self.audited(source, table, areas, change_id, order).await?
                }
                (Some(Changed::Areas(areas)), None) => (CopyPlan::Areas(areas), None),
                (Some(Changed::Unknown(reason)), order) => {
                    if let Some(order) = order {
                        self.tell_again(change_id, order.from);
                    }
                    (CopyPlan::ByDigest, Some(reason))
                }
            },
        };
        // A source that knows why the next run will read everything says so now, also in a full.
        let opened = self.snapshot.disks().get(self.index);
        let reason = reason.or_else(|| opened.and_then(|it| it.no_mark.clone()));
        let reason = both(reason, not_audited);
        let used = match &plan {
            CopyPlan::Full => CopyMethod::Full.name(),
            CopyPlan::ByDigest => CopyMethod::ByDigest.name(),
            CopyPlan::Areas(_) => self.disk.method.name(),
        };
        self.job.disk_method(self.index, used, reason);
        Ok(plan)
    }

    fn has_grown(&self) -> bool {
        let parent = self.disk.parent.as_ref();
        parent.is_some_and(|it| it.capacity_bytes != self.disk.capacity_bytes)
    }

    /// The table that the copy compares with: the parent's digests, or none.
    async fn table(&self) -> Result<Arc<DigestTable>, Fault> {
        let table = self.new_table(self.disk.capacity_bytes)?;
        let parent = match (&self.disk.method, &self.disk.parent) {
            (CopyMethod::Full, _) | (_, None) => return Ok(table),
            (_, Some(parent)) => self.parent_table(parent).await?,
        };
        let merged = tokio::task::spawn_blocking(move || table.copy_from(&parent).map(|()| table));
        let merged = merged.await.map_err(|_| fault::internal())?;
        merged.map_err(|error| fault::of_table(&error))
    }

    async fn parent_table(&self, parent: &ParentManifest) -> Result<Arc<DigestTable>, Fault> {
        let table = self.new_table(parent.capacity_bytes)?;
        let device = self.connect(&parent.target, 1).await?;
        table.load(&*device).await.map_err(|error| {
            device.given_up().map_or_else(|| fault::of_parent(&error), |it| fault::of_loss(&it))
        })?;
        let loaded = table.clone();
        let root = tokio::task::spawn_blocking(move || loaded.root()).await;
        let root = root.map_err(|_| fault::internal())?.map_err(|it| fault::of_table(&it))?;
        if Digest::from_str(&parent.root).ok() != Some(root) {
            let detail = "the parent's digests do not have the root that was promised; verify the parent, or start a full copy";
            return Err(fault::fault("copy/parent-manifest-mismatch", detail));
        }
        Ok(table)
    }

    fn new_table(&self, capacity: u64) -> Result<Arc<DigestTable>, Fault> {
        let size = BlockSize::new(self.disk.block_size).map_err(|_| fault::internal())?;
        let table = DigestTable::temporary_in(&self.options.temp_dir, capacity, size);
        table.map(Arc::new).map_err(|error| fault::of_table(&error))
    }
}
