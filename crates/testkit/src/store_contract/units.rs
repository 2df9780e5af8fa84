//! Units of work: all or nothing, and what happens when two meet.

use crate::Whole as _;
use std::time::Duration;

use anyhow::{bail, ensure};
use hub_domain::disk::NewDisk;
use hub_domain::ids::VmContextId;
use hub_domain::vm::ContextStatus;
use hub_ports::{Store, StoreError, UnitOfWork, retry_conflicts};

use super::samples::{add_vm, at, disks, replication, two_disks, vm};
use super::{Outcome, ensure_refused};
use crate::fixtures::{self, SMALL};

/// How long a unit that has to wait for another is given before the other goes on.
const GRACE: Duration = Duration::from_millis(300);

/// What is not committed never was.
pub async fn dropped_work_leaves_nothing_behind(store: &dyn Store) -> Outcome {
    let known = add_vm(store, 1).await?;
    let before = disks(store, known.id).await?;
    let mut work = store.begin().await?;
    work.lock_vm(known.id).await?;
    work.insert_vms(&[vm(2)]).await?;
    work.insert_disks(&two_disks(vm(2).id)?, at(3)).await?;
    work.insert_repository(&fixtures::repository(1, "repository")).await?;
    let job = replication(1, known.id, &before);
    work.insert_replication(&job).await?;
    ensure!(work.link_disks(known.id, job.id, at(4)).await? == 2);
    drop(work);
    ensure!(disks(store, known.id).await? == before);
    let mut view = store.view().await?;
    ensure!(view.vm(vm(2).id).await?.is_none());
    ensure!(view.disks_of(&[vm(2).id]).await?.is_empty());
    ensure!(view.repositories().await?.whole()?.is_empty());
    ensure!(view.replication(job.id).await?.is_none());
    Ok(())
}

/// A view neither sees an open unit nor waits for it.
pub async fn a_view_sees_only_what_is_committed(store: &dyn Store) -> Outcome {
    let known = add_vm(store, 1).await?;
    let mut work = store.begin().await?;
    work.lock_vm(known.id).await?;
    work.set_vm_status(known.id, ContextStatus::Replicating, at(4)).await?;
    let seen = store.view().await?.vm(known.id).await?;
    ensure!(seen.is_some_and(|vm| vm.status == ContextStatus::Discovered));
    store.ping().await?;
    work.commit().await?;
    let seen = store.view().await?.vm(known.id).await?;
    ensure!(seen.is_some_and(|vm| vm.status == ContextStatus::Replicating));
    Ok(())
}

/// A unit in which the database refused something cannot keep the rest.
pub async fn nothing_is_kept_of_a_unit_that_was_refused(store: &dyn Store) -> Outcome {
    add_vm(store, 1).await?;
    let mut work = store.begin().await?;
    work.insert_repository(&fixtures::repository(1, "repository")).await?;
    let mut again = vm(2);
    again.facts.vmware_vm_id = vm(1).facts.vmware_vm_id;
    ensure_refused!(work.insert_vms(&[again]).await, StoreError::Conflict);
    ensure!(work.commit().await.is_err(), "half a unit was kept");
    ensure!(store.view().await?.repositories().await?.whole()?.is_empty());
    Ok(())
}

/// Reads the disks of a VM and adds the next one: a decision that rests on what was read.
async fn add_next_disk(work: &mut dyn UnitOfWork, vm: VmContextId) -> Result<(), StoreError> {
    let next = work.disks_of(&[vm]).await?.len();
    let ordinal = u32::try_from(next).map_err(|_| StoreError::Conflict)?;
    let facts = fixtures::disk(&format!("disk-{}", 2000 + next), SMALL)
        .map_err(|error| StoreError::Internal(error.into()))?;
    work.insert_disks(&[NewDisk { vm, ordinal, facts }], at(5)).await
}

async fn add_next_disk_alone(store: &dyn Store, vm: VmContextId) -> Result<(), StoreError> {
    let mut work = store.begin().await?;
    work.lock_vm(vm).await?;
    add_next_disk(&mut *work, vm).await?;
    work.commit().await
}

/// How many of two units came through; anything but a conflict is a fault.
fn winners(outcomes: [Result<(), StoreError>; 2]) -> anyhow::Result<usize> {
    let mut won = 0;
    for outcome in outcomes {
        match outcome {
            Ok(()) => won += 1,
            Err(StoreError::Conflict) => {}
            Err(error) => bail!("neither done nor a conflict: {error:?}"),
        }
    }
    ensure!(won > 0, "nobody won");
    Ok(won)
}

/// Two units decide on the same disks: they come one after the other, or one conflicts.
pub async fn two_units_on_one_vm_lose_nothing(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?.id;
    let mut first = store.begin().await?;
    first.lock_vm(vm).await?;
    let second = add_next_disk_alone(store, vm);
    tokio::pin!(second);
    // A catalogue with locks makes the second wait here; one without lets it run through.
    let early = tokio::time::timeout(GRACE, &mut second).await.ok();
    let first = async {
        add_next_disk(&mut *first, vm).await?;
        first.commit().await
    };
    let first = first.await;
    let second = match early {
        Some(done) => done,
        None => second.await,
    };
    let won = winners([first, second])?;
    let stored = disks(store, vm).await?;
    ensure!(stored.len() == 2 + won, "{won} won, and there are {} disks", stored.len());
    ensure!(stored.iter().map(|disk| disk.ordinal).eq((0..).take(stored.len())));
    Ok(())
}

/// Two units put the same VM under management: there is one, with its disks.
pub async fn two_units_that_add_the_same_vm(store: &dyn Store) -> Outcome {
    let add = async |number: u128, work: &mut dyn UnitOfWork| {
        let mut new = vm(number);
        new.facts.vmware_vm_id = vm(1).facts.vmware_vm_id;
        work.insert_vms(std::slice::from_ref(&new)).await?;
        add_next_disk(work, new.id).await
    };
    let mut first = store.begin().await?;
    add(1, &mut *first).await?;
    let second = async {
        let mut work = store.begin().await?;
        add(2, &mut *work).await?;
        work.commit().await
    };
    tokio::pin!(second);
    let early = tokio::time::timeout(GRACE, &mut second).await.ok();
    let first = first.commit().await;
    let second = match early {
        Some(done) => done,
        None => second.await,
    };
    ensure!(winners([first, second])? == 1);
    let totals = store.view().await?.inventory_totals().await?;
    ensure!(totals.vms == 1 && totals.disks == 1, "{totals:?}");
    Ok(())
}

/// Four at once, each tried again on a conflict: all four disks are there.
pub async fn many_units_at_once_all_come_through_with_retries(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?.id;
    let one = || retry_conflicts(|| add_next_disk_alone(store, vm));
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    for done in [a, b, c, d] {
        done?;
    }
    let stored = disks(store, vm).await?;
    ensure!(stored.iter().map(|disk| disk.ordinal).eq(0..6), "{stored:?}");
    Ok(())
}

/// Units that share nothing both come through, tried again at most.
pub async fn units_on_different_vms_do_not_conflict(store: &dyn Store) -> Outcome {
    let (one, other) = (add_vm(store, 1).await?.id, add_vm(store, 2).await?.id);
    let (first, second) =
        tokio::join!(add_next_disk_alone(store, one), add_next_disk_alone(store, other));
    first?;
    second?;
    ensure!(disks(store, one).await?.len() == 3);
    ensure!(disks(store, other).await?.len() == 3);
    Ok(())
}

/// There is nothing to lock.
pub async fn locking_what_does_not_exist(store: &dyn Store) -> Outcome {
    let mut work = store.begin().await?;
    ensure_refused!(work.lock_vm(vm(9).id).await, StoreError::Missing(_));
    Ok(())
}
