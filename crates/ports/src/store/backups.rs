//! Backup runs, backup jobs and chains.

use async_trait::async_trait;
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::ids::{BackupJobId, BackupRunId, RepositoryId, VmContextId};
use hub_domain::job::JobStatus;
use hub_domain::remarks::Remarks;

use super::Row;
use crate::StoreError;

/// Narrows a list of backup jobs; absent fields match everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupFilter {
    /// Only of this VM.
    pub vm: Option<VmContextId>,
    /// Only of the disk with this ordinal.
    pub ordinal: Option<u32>,
    /// Only in this repository.
    pub repository: Option<RepositoryId>,
    /// Only with this status.
    pub status: Option<JobStatus>,
    /// Only of this run.
    pub run: Option<BackupRunId>,
}

/// Sums over all backup jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupStats {
    /// All jobs.
    pub jobs: u64,
    /// Restore points.
    pub points: u64,
    /// Jobs that failed or were interrupted.
    pub failed: u64,
    /// Jobs still at work.
    pub active: u64,
    /// Bytes that the restore points take.
    pub stored_bytes: u64,
    /// Restore points that may lack changes, because their source was caught leaving some out.
    pub suspect: u64,
    /// Of the chains whose next backup would stand on such points, how many; each gets a full next.
    pub suspect_chains: u64,
}

/// What of [`BackupStats`] somebody should look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspicions {
    /// Its `suspect`.
    pub points: u64,
    /// Its `suspect_chains`.
    pub chains: u64,
}

/// Reads backups.
#[async_trait]
pub trait BackupReads: Send {
    /// The run with this id.
    async fn backup_run(&mut self, id: BackupRunId) -> Result<Option<BackupRun>, StoreError>;

    /// The jobs of a run, by ordinal.
    async fn backups_of_run(&mut self, run: BackupRunId)
    -> Result<Vec<Row<BackupJob>>, StoreError>;

    /// The job with this id.
    async fn backup(&mut self, id: BackupJobId) -> Result<Option<BackupJob>, StoreError>;

    /// Up to `limit` jobs with an id after `after`, by id.
    async fn backups_page(
        &mut self,
        filter: &BackupFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<BackupJob>>, StoreError>;

    /// All jobs under a chain key, by id, whatever their status.
    async fn backups_of_chain(&mut self, key: ChainKey) -> Result<Vec<BackupJob>, StoreError>;

    /// The jobs that are not in a terminal state; of one VM or of all.
    async fn unfinished_backups(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<BackupJob>>, StoreError>;

    /// The points whose deletion has begun.
    async fn deleting_backups(&mut self) -> Result<Vec<Row<BackupJob>>, StoreError>;

    /// The chain row of a key.
    async fn chain(&mut self, key: ChainKey) -> Result<Option<BackupChain>, StoreError>;

    /// The chain rows of a VM, by ordinal and repository.
    async fn chains_of_vm(&mut self, vm: VmContextId) -> Result<Vec<Row<BackupChain>>, StoreError>;

    /// The VMs that have backup jobs under this name, including such whose VM context is gone.
    async fn backed_up_vms_named(&mut self, name: &str) -> Result<Vec<VmContextId>, StoreError>;

    /// Sums over everything.
    async fn backup_stats(&mut self) -> Result<BackupStats, StoreError>;

    /// What of it is suspect; cheap however many backups there are, since the health of a hub is asked often.
    async fn suspicions(&mut self) -> Result<Suspicions, StoreError>;
}

/// Writes backups.
#[async_trait]
pub trait BackupWrites: Send {
    /// Stores a new run with its jobs.
    async fn insert_backup_run(
        &mut self,
        run: &BackupRun,
        jobs: &[BackupJob],
    ) -> Result<(), StoreError>;

    /// Stores what a run says of itself, in the place of what it said before; a run that is gone says nothing any more.
    async fn remark(&mut self, id: BackupRunId, made: &Remarks) -> Result<(), StoreError>;

    /// Stores a job as given if it still has the given version, and counts that up; else [`StoreError::Conflict`].
    async fn update_backup(&mut self, job: &mut BackupJob) -> Result<(), StoreError>;

    /// Removes a job, and its run with the last of it; [`StoreError::Refused`] while another stands on it or its chain
    /// row names it. Restores and verifications of it stay as history.
    async fn delete_backup(&mut self, id: BackupJobId) -> Result<(), StoreError>;

    /// Stores the chain row of its key, new or changed.
    async fn put_chain(&mut self, chain: &BackupChain) -> Result<(), StoreError>;

    /// Removes the chain row of a key, if there is one.
    async fn remove_chain(&mut self, key: ChainKey) -> Result<(), StoreError>;
}
