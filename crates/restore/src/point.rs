//! Finds a restore point with all that is needed to read it.

use hub_domain::backup::BackupJob;
use hub_domain::chain::chain_to;
use hub_domain::ids::BackupJobId;
use hub_ports::{Catalogue, PointLocation, StoreError, UnitOfWork};

use crate::error::PointError;

/// The completed point with this id; anything else that has the id is refused with its state.
pub(crate) async fn find(
    catalogue: &mut dyn Catalogue,
    id: BackupJobId,
) -> Result<BackupJob, PointError> {
    let job = catalogue.backup(id).await?.ok_or(PointError::NotFound(id))?;
    if job.is_restore_point() {
        return Ok(job);
    }
    let status = if job.deleting_since.is_some() { "deleting" } else { job.state.status().word() };
    Err(PointError::NotCompleted { id, status })
}

/// The point as [`find`] gives it, kept from being deleted until the unit ends.
///
/// The lock of its VM guards it; where the VM is gone, its version does, which the start of a deletion counts up too.
pub(crate) async fn hold(
    work: &mut dyn UnitOfWork,
    id: BackupJobId,
) -> Result<BackupJob, PointError> {
    let mut seen = find(&mut *work, id).await?;
    match work.lock_vm(seen.vm).await {
        // What was read before the lock may have changed while it was waited for.
        Ok(()) => find(&mut *work, id).await,
        Err(StoreError::Missing(_)) => {
            work.update_backup(&mut seen).await?;
            Ok(seen)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a point lies.
pub(crate) async fn locate(
    catalogue: &mut dyn Catalogue,
    job: &BackupJob,
) -> Result<PointLocation, PointError> {
    let repository = catalogue.repository(job.repository).await?;
    let repository = repository.ok_or(PointError::RepositoryGone(job.id))?;
    let path = job.path.clone().ok_or(PointError::NotFound(job.id))?;
    Ok(PointLocation { point: job.id, ordinal: job.ordinal, repository, path })
}

/// All points from the full to this one.
pub(crate) async fn chain(
    catalogue: &mut dyn Catalogue,
    tip: &BackupJob,
) -> Result<Vec<BackupJob>, PointError> {
    let points = catalogue.backups_of_chain(tip.chain_key()).await?;
    let chain = chain_to(&points, tip.id).ok_or(PointError::ChainIncomplete(tip.id))?;
    Ok(chain.into_iter().cloned().collect())
}
