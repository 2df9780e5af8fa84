//! What goes along with a deletion, what stays, and what forbids it.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::ids::VmContextId;
use hub_ports::{Store, StoreError};
use uuid::Uuid;

use super::samples::{
    BackedUp, add_repository, at, back_up, disks, replicate, run, standing_on, vm,
};
use super::{Outcome, ensure_refused};
use crate::fixtures;

/// Deleting a VM takes its disks and replications; its points stay, with their chain, without a disk row.
pub async fn trap_c10_points_outlive_their_vm(store: &dyn Store) -> Outcome {
    let BackedUp { vm, repository, run, mut jobs } = back_up(store, 1).await?;
    let other = back_up(store, 2).await?;
    let replication = replicate(store, 1, vm.id).await?;
    let key = ChainKey { vm: vm.id, ordinal: 0, repository: repository.id };
    let chain =
        BackupChain { key, full: jobs[0].id, latest: jobs[0].id, count: 1, stored_bytes: 1_000 };
    let mut work = store.begin().await?;
    work.put_chain(&chain).await?;
    work.commit().await?;
    let mut work = store.begin().await?;
    work.lock_vm(vm.id).await?;
    work.delete_vm(vm.id).await?;
    work.commit().await?;
    ensure!(disks(store, vm.id).await?.is_empty());
    ensure!(disks(store, other.vm.id).await?.len() == 2);
    let mut view = store.view().await?;
    ensure!(view.vm(vm.id).await?.is_none());
    ensure!(view.replication(replication.id).await?.is_none());
    ensure!(view.backup_run(run.id).await? == Some(run.clone()));
    ensure!(view.chains_of_vm(vm.id).await?.whole()? == [chain]);
    ensure!(view.backed_up_vms_named(&vm.facts.name).await? == [vm.id]);
    for job in &mut jobs {
        job.disk = None;
    }
    ensure!(view.backups_of_run(run.id).await?.whole()? == jobs);
    drop(view);
    // What was read before the deletion does not bring the disk row's number back.
    let mut stale = jobs[0].clone();
    stale.disk = other.jobs[0].disk;
    stale.deleting_since = Some(at(60));
    let mut work = store.begin().await?;
    work.update_backup(&mut stale).await?;
    work.commit().await?;
    let stored = store.view().await?.backup(stale.id).await?;
    ensure!(stored.is_some_and(|job| job.disk.is_none()));
    let mut work = store.begin().await?;
    let gone = VmContextId::from_uuid(Uuid::from_u128(99));
    ensure_refused!(work.delete_vm(gone).await, StoreError::Missing(_));
    Ok(())
}

/// A point is refused to go while an incremental stands on it or its chain names it.
pub async fn what_is_stood_upon_stays(store: &dyn Store) -> Outcome {
    let BackedUp { vm, repository, jobs, .. } = back_up(store, 1).await?;
    let later = run(2, &vm, &repository);
    let mut child = standing_on(&jobs[0], 300);
    child.run = later.id;
    let key = ChainKey { vm: vm.id, ordinal: 0, repository: repository.id };
    let chain =
        BackupChain { key, full: jobs[0].id, latest: child.id, count: 2, stored_bytes: 2_000 };
    let mut work = store.begin().await?;
    work.insert_backup_run(&later, std::slice::from_ref(&child)).await?;
    work.put_chain(&chain).await?;
    work.commit().await?;
    for named in [jobs[0].id, child.id] {
        let mut work = store.begin().await?;
        ensure_refused!(work.delete_backup(named).await, StoreError::Refused(_));
    }
    // One unit can do it in the order of dependency (trap D4).
    let mut work = store.begin().await?;
    work.put_chain(&BackupChain { latest: jobs[0].id, count: 1, ..chain }).await?;
    work.delete_backup(child.id).await?;
    work.remove_chain(key).await?;
    work.delete_backup(jobs[0].id).await?;
    ensure_refused!(work.delete_backup(jobs[0].id).await, StoreError::Missing(_));
    Ok(())
}

/// A run without jobs would look as if it waited for ever.
pub async fn the_last_job_takes_its_run_along(store: &dyn Store) -> Outcome {
    let BackedUp { run, jobs, .. } = back_up(store, 1).await?;
    let mut work = store.begin().await?;
    work.delete_backup(jobs[0].id).await?;
    ensure!(work.backup_run(run.id).await?.is_some());
    work.delete_backup(jobs[1].id).await?;
    work.commit().await?;
    ensure!(store.view().await?.backup_run(run.id).await?.is_none());
    Ok(())
}

/// A repository goes only when no backup lies in it.
pub async fn a_used_repository_stays(store: &dyn Store) -> Outcome {
    let BackedUp { repository, jobs, .. } = back_up(store, 1).await?;
    let unused = add_repository(store, 2).await?;
    let mut work = store.begin().await?;
    ensure_refused!(work.delete_repository(repository.id).await, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    work.delete_repository(unused.id).await?;
    for job in &jobs {
        work.delete_backup(job.id).await?;
    }
    work.delete_repository(repository.id).await?;
    work.commit().await?;
    ensure!(store.view().await?.repositories().await?.whole()?.is_empty());
    Ok(())
}

/// A login or VMA that a VM uses is not deleted under it.
pub async fn trap_c16_what_a_vm_uses_stays(store: &dyn Store) -> Outcome {
    let (credential, node) = (fixtures::credential(5, "login"), fixtures::vma_node(6, "vma"));
    let mut vm = vm(1);
    vm.credential = Some(credential.id);
    vm.vma_node = Some(node.id);
    let mut work = store.begin().await?;
    work.insert_credential(&credential).await?;
    work.insert_vma_node(&node).await?;
    work.insert_vms(std::slice::from_ref(&vm)).await?;
    work.commit().await?;
    let mut work = store.begin().await?;
    ensure_refused!(work.delete_credential(credential.id).await, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    ensure_refused!(work.delete_vma_node(node.id).await, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    work.delete_vm(vm.id).await?;
    work.delete_credential(credential.id).await?;
    work.delete_vma_node(node.id).await?;
    work.commit().await?;
    Ok(())
}
