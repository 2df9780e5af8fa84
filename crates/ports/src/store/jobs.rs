//! Replication, restore and verification jobs.

use async_trait::async_trait;
use hub_domain::ids::{ReplicationJobId, RestoreJobId, VerificationId, VmContextId};
use hub_domain::replication::ReplicationJob;
use hub_domain::restore::{RestoreJob, Verification};

use super::Row;
use crate::StoreError;

/// Reads replication jobs.
#[async_trait]
pub trait ReplicationReads: Send {
    /// The job with this id, with its disks by ordinal.
    async fn replication(
        &mut self,
        id: ReplicationJobId,
    ) -> Result<Option<ReplicationJob>, StoreError>;

    /// Up to `limit` jobs with an id after `after`, by id; of one VM or of all.
    async fn replications_page(
        &mut self,
        vm: Option<VmContextId>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError>;

    /// The jobs that are not in a terminal state; of one VM or of all.
    async fn unfinished_replications(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError>;
}

/// Writes replication jobs.
#[async_trait]
pub trait ReplicationWrites: Send {
    /// Stores a new job with its disks.
    async fn insert_replication(&mut self, job: &ReplicationJob) -> Result<(), StoreError>;

    /// Stores a job as given if it still has the given version, and counts that up; else [`StoreError::Conflict`].
    async fn update_replication(&mut self, job: &mut ReplicationJob) -> Result<(), StoreError>;

    /// Removes a job; disks linked to it stay, with `job_id` NULL again.
    async fn delete_replication(&mut self, id: ReplicationJobId) -> Result<(), StoreError>;
}

/// Reads restore jobs and verifications.
#[async_trait]
pub trait RestoreReads: Send {
    /// The restore with this id.
    async fn restore(&mut self, id: RestoreJobId) -> Result<Option<RestoreJob>, StoreError>;

    /// Up to `limit` restores with an id after `after`, by id.
    async fn restores_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<RestoreJob>>, StoreError>;

    /// The restores that are not in a terminal state.
    async fn unfinished_restores(&mut self) -> Result<Vec<Row<RestoreJob>>, StoreError>;

    /// The verification with this id.
    async fn verification(
        &mut self,
        id: VerificationId,
    ) -> Result<Option<Verification>, StoreError>;

    /// Up to `limit` verifications with an id after `after`, by id.
    async fn verifications_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<Verification>>, StoreError>;

    /// The verifications that are not in a terminal state.
    async fn unfinished_verifications(&mut self) -> Result<Vec<Row<Verification>>, StoreError>;
}

/// Writes restore jobs and verifications.
#[async_trait]
pub trait RestoreWrites: Send {
    /// Stores a new restore.
    async fn insert_restore(&mut self, job: &RestoreJob) -> Result<(), StoreError>;

    /// Stores a restore as given if it still has the given version, and counts that up; else [`StoreError::Conflict`].
    async fn update_restore(&mut self, job: &mut RestoreJob) -> Result<(), StoreError>;

    /// Stores a new verification.
    async fn insert_verification(&mut self, job: &Verification) -> Result<(), StoreError>;

    /// Stores a verification as given if it still has the given version, and counts that up; else
    /// [`StoreError::Conflict`].
    async fn update_verification(&mut self, job: &mut Verification) -> Result<(), StoreError>;
}
