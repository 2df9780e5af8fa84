//! Owed clean-ups.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupRunId, ReplicationJobId};
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::time::Timestamp;
use hub_ports::Store;
use uuid::Uuid;

use super::Outcome;
use super::samples::{at, vm};
use crate::fixtures;

/// What a copy of a VM owes.
fn owed(number: u128, since: Timestamp) -> OwedCleanup {
    let id = Uuid::from_u128(number);
    let is_backup = number % 2 == 1;
    OwedCleanup {
        copy: format!("{id}.2"),
        job: match is_backup {
            true => OwedBy::Backup(BackupRunId::from_uuid(id)),
            false => OwedBy::Replication(ReplicationJobId::from_uuid(id)),
        },
        vm: vm(number).id,
        vm_name: "Веб /1, ✓".to_owned(),
        vmware_vm_id: format!("source-{number}"),
        source: "vc-1".to_owned(),
        vma_node: fixtures::vma_node(number, "vma").id,
        credential: is_backup.then(|| fixtures::credential(number, "login").id),
        since,
        ordered_at: since,
        tries: 0,
        tried_at: None,
        fault: None,
    }
}

/// What is owed needs no VM, is listed by age, and is changed by tries only.
pub async fn trap_u12_what_is_owed_is_kept_until_it_is_struck_off(store: &dyn Store) -> Outcome {
    let (young, old) = (owed(1, at(9)), owed(2, at(5)));
    let mut work = store.begin().await?;
    work.owe(&young).await?;
    work.owe(&old).await?;
    work.commit().await?;
    ensure!(store.view().await?.owed_cleanups(9).await?.whole()? == [old.clone(), young.clone()]);
    ensure!(store.view().await?.owed_cleanups(1).await?.whole()? == std::slice::from_ref(&old));
    let tried = young.clone().in_vain(Fault::new("vma/unreachable", "nobody answers"), at(20));
    let unknown = owed(4, at(1)).in_vain(Fault::new("vma/unreachable", "nobody answers"), at(20));
    let mut work = store.begin().await?;
    work.note_try(&tried).await?;
    work.note_try(&unknown).await?;
    ensure!(work.strike_off(&old).await?);
    ensure!(!work.strike_off(&old).await? && !work.strike_off(&unknown).await?);
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(
        view.owed_cleanups(9).await?.whole()? == std::slice::from_ref(&tried),
        "a try makes no record"
    );
    ensure!(view.owed_cleanup(&tried.copy).await? == Some(tried));
    ensure!(view.owed_cleanup(&old.copy).await?.is_none());
    Ok(())
}

/// Whoever asked a VMA before a copy was ordered again knows nothing of that order.
pub async fn trap_u12_what_is_owed_anew_is_not_struck_off_for_an_older_answer(
    store: &dyn Store,
) -> Outcome {
    let first = owed(1, at(5));
    let tried = first.clone().in_vain(Fault::new("vma/too-many-jobs", "no room"), at(6));
    let mut again = owed(1, at(9));
    again.vma_node = fixtures::vma_node(7, "other").id;
    again.credential = None;
    let mut work = store.begin().await?;
    work.owe(&first).await?;
    work.note_try(&tried).await?;
    work.owe(&again).await?;
    work.commit().await?;
    let mut work = store.begin().await?;
    ensure!(!work.strike_off(&tried).await?, "it was asked for before the second order");
    work.commit().await?;
    let kept = store.view().await?.owed_cleanup(&first.copy).await?;
    let (vma_node, credential, ordered_at) = (again.vma_node, None, again.ordered_at);
    let expected = OwedCleanup { vma_node, credential, ordered_at, ..tried };
    ensure!(kept == Some(expected.clone()), "its age and its tries are those of the first");
    let mut work = store.begin().await?;
    ensure!(work.strike_off(&expected).await?);
    work.commit().await?;
    ensure!(store.view().await?.owed_cleanups(9).await?.whole()?.is_empty());
    Ok(())
}
