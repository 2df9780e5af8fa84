//! Replication jobs.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::fault::Fault;
use hub_domain::job::JobState;
use hub_ports::{Store, StoreError};

use super::samples::{add_vm, at, disks, replicate, replication, vm};
use super::{Outcome, ensure_refused};

/// Every field of a job and of its disks survives, changes included.
pub async fn a_replication_reads_back_as_written(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut job = replicate(store, 1, vm.id).await?;
    ensure!(store.view().await?.replication(job.id).await? == Some(job.clone()));
    job.disks[0].bytes.done = 4096;
    job.disks[1].path = None;
    job.disks[1].method = None;
    job.disks[1].method_reason = None;
    job.disks[1].read_by = None;
    job.quiescence = None;
    job.disks[1].root = None;
    job.state = JobState::Failed {
        started: Some(at(5)),
        finished: at(9),
        fault: Fault::new("copy/failed", "the source's disk cannot be read: Ж"),
    };
    let mut work = store.begin().await?;
    work.update_replication(&mut job).await?;
    work.commit().await?;
    ensure!(job.version == 1);
    ensure!(store.view().await?.replication(job.id).await? == Some(job));
    Ok(())
}

/// Whoever read an older version loses.
pub async fn a_stale_replication_is_a_conflict(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut job = replicate(store, 1, vm.id).await?;
    let mut stale = job.clone();
    let mut work = store.begin().await?;
    work.update_replication(&mut job).await?;
    work.commit().await?;
    stale.state = JobState::Cancelling { started: at(5) };
    let mut work = store.begin().await?;
    ensure_refused!(work.update_replication(&mut stale).await, StoreError::Conflict);
    drop(work);
    ensure!(stale.version == 0, "a refused write counts nothing up");
    ensure!(store.view().await?.replication(job.id).await? == Some(job));
    Ok(())
}

/// Pages by id, of all or of one VM, and the unfinished ones apart.
pub async fn replications_are_listed_by_id(store: &dyn Store) -> Outcome {
    let (one, other) = (add_vm(store, 1).await?, add_vm(store, 2).await?);
    let mut jobs = Vec::new();
    for (number, vm) in [(1, &one), (2, &other), (3, &one)] {
        jobs.push(replicate(store, number, vm.id).await?);
    }
    jobs[2].state = JobState::Succeeded { started: at(5), finished: at(6) };
    let mut work = store.begin().await?;
    work.update_replication(&mut jobs[2]).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.replications_page(None, None, 2).await?.whole()? == jobs[..2]);
    ensure!(
        view.replications_page(None, Some(&jobs[1].id.to_string()), 2).await?.whole()? == jobs[2..]
    );
    let of_one = view.replications_page(Some(one.id), None, 9).await?.whole()?;
    ensure!(of_one == [jobs[0].clone(), jobs[2].clone()]);
    ensure!(view.unfinished_replications(None).await?.whole()? == jobs[..2]);
    ensure!(view.unfinished_replications(Some(one.id)).await?.whole()? == jobs[..1]);
    let of_nobody = replication(4, vm(9).id, &disks(store, one.id).await?[..0]);
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_replication(&of_nobody).await, StoreError::Missing(_));
    Ok(())
}
