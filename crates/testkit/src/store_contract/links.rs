//! Disks and the replication jobs they are linked to.

use anyhow::ensure;
use hub_domain::disk::{Presence, VmDisk};
use hub_domain::ids::ReplicationJobId;
use hub_ports::{Store, StoreError};
use uuid::Uuid;

use super::samples::{add_vm, at, disks, replicate, replication};
use super::{Outcome, ensure_refused};

fn ids(disks: &[VmDisk]) -> Vec<i64> {
    disks.iter().map(|disk| disk.id.as_raw()).collect()
}

/// Acceptance story 2: the same rows carry the job, none is duplicated.
pub async fn the_same_rows_are_linked(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let other = add_vm(store, 2).await?;
    let before = disks(store, vm.id).await?;
    let job = replication(1, vm.id, &before);
    let mut work = store.begin().await?;
    work.lock_vm(vm.id).await?;
    work.insert_replication(&job).await?;
    ensure!(work.link_disks(vm.id, job.id, at(6)).await? == 2);
    work.commit().await?;
    let after = disks(store, vm.id).await?;
    ensure!(ids(&after) == ids(&before));
    ensure!(after.iter().all(|disk| disk.job == Some(job.id) && disk.updated_at == at(6)));
    ensure!(disks(store, other.id).await?.iter().all(|disk| disk.job.is_none()));
    let mut work = store.begin().await?;
    let unknown = ReplicationJobId::from_uuid(Uuid::from_u128(9));
    ensure_refused!(work.link_disks(vm.id, unknown, at(7)).await, StoreError::Missing(_));
    Ok(())
}

/// Deleting a job sets its disks back to NULL and keeps them.
pub async fn trap_c11_a_deleted_job_leaves_its_disks(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let before = disks(store, vm.id).await?;
    let job = replicate(store, 1, vm.id).await?;
    let mut work = store.begin().await?;
    work.delete_replication(job.id).await?;
    work.commit().await?;
    let after = disks(store, vm.id).await?;
    ensure!(ids(&after) == ids(&before));
    ensure!(after.iter().all(|disk| disk.job.is_none()));
    ensure!(store.view().await?.replication(job.id).await?.is_none());
    let mut work = store.begin().await?;
    ensure_refused!(work.delete_replication(job.id).await, StoreError::Missing(_));
    Ok(())
}

/// A refresh that read its disks before they were linked does not unlink them.
pub async fn updating_a_disk_never_touches_its_job(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let stale = disks(store, vm.id).await?;
    let job = replicate(store, 1, vm.id).await?;
    let mut work = store.begin().await?;
    work.update_disks(&stale).await?;
    work.commit().await?;
    ensure!(disks(store, vm.id).await?.iter().all(|disk| disk.job == Some(job.id)));
    Ok(())
}

/// Only present disks are linked.
pub async fn a_retired_disk_is_not_linked(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut retired = disks(store, vm.id).await?;
    retired[0].presence = Presence::Retired;
    let mut work = store.begin().await?;
    work.update_disks(&retired).await?;
    let job = replication(1, vm.id, &retired[1..]);
    work.insert_replication(&job).await?;
    ensure!(work.link_disks(vm.id, job.id, at(6)).await? == 1);
    work.commit().await?;
    let linked: Vec<_> = disks(store, vm.id).await?.iter().map(|disk| disk.job).collect();
    ensure!(linked == [None, Some(job.id)]);
    Ok(())
}
