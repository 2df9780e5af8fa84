//! Restore jobs and verifications.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::fault::Fault;
use hub_domain::job::JobState;
use hub_domain::restore::{RestoreFormat, VerificationScope};
use hub_ports::{Store, StoreError};

use super::samples::{at, back_up, restore, verification};
use super::{Outcome, ensure_refused};

/// Every field of a restore survives, and a stale write is a conflict.
pub async fn a_restore_reads_back_and_is_compared(store: &dyn Store) -> Outcome {
    let point = back_up(store, 1).await?.jobs[0].id;
    let mut job = restore(1, point);
    let mut work = store.begin().await?;
    work.insert_restore(&job).await?;
    work.commit().await?;
    let mut stale = job.clone();
    job.state = JobState::Running { started: at(11) };
    job.bytes_done += 1;
    job.format = RestoreFormat::Raw;
    let mut work = store.begin().await?;
    work.update_restore(&mut job).await?;
    work.commit().await?;
    ensure!(store.view().await?.restore(job.id).await? == Some(job.clone()));
    let mut work = store.begin().await?;
    ensure_refused!(work.update_restore(&mut stale).await, StoreError::Conflict);
    ensure!(stale.version == 0 && job.version == 1);
    Ok(())
}

/// Verdicts come back with disk and offset, and a stale write is a conflict.
pub async fn a_verification_keeps_its_verdicts(store: &dyn Store) -> Outcome {
    let point = back_up(store, 1).await?.jobs[0].id;
    let mut job = verification(1, point);
    let mut work = store.begin().await?;
    work.insert_verification(&job).await?;
    work.commit().await?;
    ensure!(store.view().await?.verification(job.id).await? == Some(job.clone()));
    let mut stale = job.clone();
    job.verdicts.clear();
    job.scope = VerificationScope::Point;
    job.state = JobState::Interrupted {
        started: Some(at(11)),
        finished: at(12),
        fault: Fault::new("hub/stopped", "the hub stopped"),
    };
    let mut work = store.begin().await?;
    work.update_verification(&mut job).await?;
    work.commit().await?;
    ensure!(store.view().await?.verification(job.id).await? == Some(job));
    let mut work = store.begin().await?;
    ensure_refused!(work.update_verification(&mut stale).await, StoreError::Conflict);
    Ok(())
}

/// Lists by id, and what a restart has to look after.
pub async fn unfinished_work_is_found(store: &dyn Store) -> Outcome {
    let point = back_up(store, 1).await?.jobs[0].id;
    let mut restores = [1, 2, 3].map(|number| restore(number, point));
    let mut verifications = [1, 2, 3].map(|number| verification(number, point));
    restores[1].state = JobState::Cancelled { started: None, finished: at(12) };
    verifications[0].state = JobState::Succeeded { started: at(11), finished: at(12) };
    let mut work = store.begin().await?;
    for (restore, verification) in restores.iter().zip(&verifications).rev() {
        work.insert_restore(restore).await?;
        work.insert_verification(verification).await?;
    }
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.restores_page(None, 2).await?.whole()? == restores[..2]);
    ensure!(
        view.restores_page(Some(&restores[1].id.to_string()), 2).await?.whole()? == restores[2..]
    );
    let unfinished = [restores[0].clone(), restores[2].clone()];
    ensure!(view.unfinished_restores().await?.whole()? == unfinished);
    ensure!(view.verifications_page(None, 2).await?.whole()? == verifications[..2]);
    ensure!(
        view.verifications_page(Some(&verifications[1].id.to_string()), 2).await?.whole()?
            == verifications[2..]
    );
    ensure!(view.unfinished_verifications().await?.whole()? == verifications[1..]);
    Ok(())
}

/// What was restored and verified is still known when the point is gone.
pub async fn the_history_outlives_the_point(store: &dyn Store) -> Outcome {
    let point = back_up(store, 1).await?.jobs[0].id;
    let (restore, verification) = (restore(1, point), verification(1, point));
    let mut work = store.begin().await?;
    work.insert_restore(&restore).await?;
    work.insert_verification(&verification).await?;
    work.delete_backup(point).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.restore(restore.id).await? == Some(restore));
    ensure!(view.verification(verification.id).await? == Some(verification));
    Ok(())
}
