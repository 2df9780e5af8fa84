//! Backup runs, backup jobs and chains.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::audit::{Lie, Suspicion};
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupJobId, BackupRunId, RepositoryId};
use hub_domain::job::{JobState, JobStatus};
use hub_domain::remarks::Remarks;
use hub_domain::source::{CopyMethod, Quiescence};
use hub_ports::store::{BackupFilter, BackupStats};
use hub_ports::{Store, StoreError};
use uuid::Uuid;

use super::samples::{
    BackedUp, add_repository, add_vm, at, back_up, disks, point, run, standing_on,
};
use super::{Outcome, ensure_refused};
use crate::fixtures::BIG;

/// Every field of a run and its jobs survives, changes included.
pub async fn a_run_and_its_jobs_read_back_as_written(store: &dyn Store) -> Outcome {
    let BackedUp { run, jobs, .. } = back_up(store, 1).await?;
    let mut view = store.view().await?;
    ensure!(view.backup_run(run.id).await? == Some(run.clone()));
    ensure!(view.backups_of_run(run.id).await?.whole()? == jobs);
    ensure!(view.backup(jobs[0].id).await? == Some(jobs[0].clone()));
    ensure!(view.backup(BackupJobId::from_uuid(Uuid::from_u128(9))).await?.is_none());
    let mut bare = BackupJob {
        policy: None,
        path: None,
        change_id: None,
        method_reason: None,
        quiescence: None,
        read_by: None,
        proof: None,
        state: JobState::Queued,
        deleting_since: Some(at(50)),
        ..jobs[0].clone()
    };
    let mut work = store.begin().await?;
    work.update_backup(&mut bare).await?;
    work.commit().await?;
    ensure!(bare.version == 1);
    ensure!(store.view().await?.backup(bare.id).await? == Some(bare.clone()));
    ensure!(store.view().await?.deleting_backups().await?.whole()? == [bare]);
    for remarks in [Remarks::default(), Remarks { copied_by: None, ..run.remarks.clone() }] {
        let mut work = store.begin().await?;
        work.remark(run.id, &remarks).await?;
        work.remark(BackupRunId::from_uuid(Uuid::from_u128(9)), &remarks).await?;
        work.commit().await?;
        let said = BackupRun { remarks, ..run.clone() };
        ensure!(store.view().await?.backup_run(run.id).await? == Some(said));
    }
    Ok(())
}

/// A guest that was at rest, one that was not, and one of which nobody knows stay apart.
pub async fn a_yes_a_no_and_no_word_stay_apart(store: &dyn Store) -> Outcome {
    for (number, quiesce) in [(1, Some(true)), (2, Some(false)), (3, None)] {
        let vm = add_vm(store, number).await?;
        let repository = add_repository(store, number).await?;
        let run = BackupRun { quiesce, ..run(number, &vm, &repository) };
        let disk = disks(store, vm.id).await?.remove(0);
        let quiescence = quiesce.map(|quiesced| Quiescence { quiesced, reason: None });
        let job = BackupJob { quiescence, ..point(number, &run, &disk)? };
        let mut work = store.begin().await?;
        work.lock_vm(vm.id).await?;
        work.insert_backup_run(&run, std::slice::from_ref(&job)).await?;
        work.commit().await?;
        let mut view = store.view().await?;
        ensure!(view.backup_run(run.id).await? == Some(run), "{quiesce:?}");
        ensure!(view.backup(job.id).await? == Some(job), "{quiesce:?}");
    }
    Ok(())
}

/// No state loses its times or its fault.
pub async fn every_state_reads_back(store: &dyn Store) -> Outcome {
    let BackedUp { jobs, .. } = back_up(store, 1).await?;
    let mut job = jobs[0].clone();
    let fault = Fault::new("backup/proof-mismatch", "both ends differ: Ж\n'quoted'");
    let (started, finished) = (at(8), at(9));
    for state in [
        JobState::Queued,
        JobState::Running { started },
        JobState::Cancelling { started },
        JobState::Succeeded { started, finished },
        JobState::Failed { started: None, finished, fault: fault.clone() },
        JobState::Cancelled { started: Some(started), finished },
        JobState::Cancelled { started: None, finished },
        JobState::Interrupted { started: Some(started), finished, fault },
    ] {
        job.state = state;
        let mut work = store.begin().await?;
        work.update_backup(&mut job).await?;
        work.commit().await?;
        let mut view = store.view().await?;
        ensure!(view.backup(job.id).await? == Some(job.clone()), "{:?}", job.state);
        let unfinished = view.unfinished_backups(Some(job.vm)).await?.whole()?;
        ensure!(unfinished.is_empty() == job.state.status().is_terminal(), "{:?}", job.state);
    }
    Ok(())
}

/// Whoever read an older version loses.
pub async fn a_stale_job_is_a_conflict(store: &dyn Store) -> Outcome {
    let BackedUp { mut jobs, .. } = back_up(store, 1).await?;
    let mut stale = jobs[0].clone();
    let mut work = store.begin().await?;
    work.update_backup(&mut jobs[0]).await?;
    work.commit().await?;
    stale.stored_bytes = 5;
    let mut work = store.begin().await?;
    ensure_refused!(work.update_backup(&mut stale).await, StoreError::Conflict);
    drop(work);
    ensure!(stale.version == 0, "a refused write counts nothing up");
    let mut gone = BackupJob { id: BackupJobId::from_uuid(Uuid::from_u128(9)), ..stale };
    let mut work = store.begin().await?;
    ensure_refused!(work.update_backup(&mut gone).await, StoreError::Conflict);
    drop(work);
    ensure!(store.view().await?.backup(jobs[0].id).await? == Some(jobs[0].clone()));
    Ok(())
}

/// Filters compare columns, never parts of names.
pub async fn trap_d31_jobs_are_found_by_each_filter(store: &dyn Store) -> Outcome {
    let (one, two) = (back_up(store, 1).await?, back_up(store, 2).await?);
    let mut view = store.view().await?;
    let all = [one.jobs.clone(), two.jobs.clone()].concat();
    let any = BackupFilter::default();
    ensure!(view.backups_page(&any, None, 3).await?.whole()? == all[..3]);
    ensure!(view.backups_page(&any, Some(&all[2].id.to_string()), 3).await?.whole()? == all[3..]);
    let of_vm = BackupFilter { vm: Some(one.vm.id), ..any };
    ensure!(view.backups_page(&of_vm, None, 9).await?.whole()? == one.jobs);
    let of_disk = BackupFilter { ordinal: Some(1), ..any };
    let second_disks = [one.jobs[1].clone(), two.jobs[1].clone()];
    ensure!(view.backups_page(&of_disk, None, 9).await?.whole()? == second_disks);
    let beyond = BackupFilter { ordinal: Some(u32::MAX), ..any };
    ensure!(view.backups_page(&beyond, None, 9).await?.whole()?.is_empty());
    let of_repository = BackupFilter { repository: Some(two.repository.id), ..any };
    ensure!(view.backups_page(&of_repository, None, 9).await?.whole()? == two.jobs);
    let of_run = BackupFilter { run: Some(two.run.id), ..any };
    ensure!(view.backups_page(&of_run, None, 9).await?.whole()? == two.jobs);
    let running = BackupFilter { status: Some(JobStatus::Running), ..any };
    ensure!(view.backups_page(&running, None, 9).await?.whole()?.is_empty());
    let succeeded = BackupFilter { status: Some(JobStatus::Succeeded), ..of_vm };
    ensure!(view.backups_page(&succeeded, None, 9).await?.whole()? == one.jobs);
    ensure!(view.backed_up_vms_named(&one.vm.facts.name).await? == [one.vm.id]);
    ensure!(view.backed_up_vms_named("vm").await?.is_empty());
    Ok(())
}

/// Jobs of a chain are those of its VM, ordinal and repository, whatever their status.
pub async fn trap_d13_a_chain_is_its_key_and_nothing_else(store: &dyn Store) -> Outcome {
    let one = back_up(store, 1).await?;
    back_up(store, 2).await?;
    let later = run(3, &one.vm, &one.repository);
    let mut next = standing_on(&one.jobs[1], 300);
    next.run = later.id;
    next.state = JobState::Queued;
    let mut work = store.begin().await?;
    work.insert_backup_run(&later, std::slice::from_ref(&next)).await?;
    work.commit().await?;
    let key = ChainKey { vm: one.vm.id, ordinal: 1, repository: one.repository.id };
    let mut view = store.view().await?;
    ensure!(view.backups_of_chain(key).await? == [one.jobs[1].clone(), next.clone()]);
    ensure!(view.unfinished_backups(None).await?.whole()? == [next]);
    let elsewhere = RepositoryId::from_uuid(Uuid::from_u128(9));
    let other = ChainKey { repository: elsewhere, ..key };
    ensure!(view.backups_of_chain(other).await?.is_empty());
    Ok(())
}

/// One row per key, new or changed.
pub async fn chains_are_put_and_removed(store: &dyn Store) -> Outcome {
    let BackedUp { vm, repository, jobs, .. } = back_up(store, 1).await?;
    let chain = |ordinal, job: &BackupJob| BackupChain {
        key: ChainKey { vm: vm.id, ordinal, repository: repository.id },
        full: job.id,
        latest: job.id,
        count: 1,
        stored_bytes: 1_000,
    };
    let (first, second) = (chain(0, &jobs[0]), chain(1, &jobs[1]));
    let mut work = store.begin().await?;
    work.put_chain(&second).await?;
    work.put_chain(&first).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.chains_of_vm(vm.id).await?.whole()? == [first.clone(), second.clone()]);
    drop(view);
    let longer = BackupChain { latest: jobs[1].id, count: 2, stored_bytes: 2_000, ..first.clone() };
    let mut work = store.begin().await?;
    work.put_chain(&longer).await?;
    work.remove_chain(second.key).await?;
    work.remove_chain(second.key).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.chain(first.key).await? == Some(longer));
    ensure!(view.chain(second.key).await?.is_none());
    drop(view);
    let of_nothing = BackupChain { full: BackupJobId::from_uuid(Uuid::from_u128(9)), ..first };
    let mut work = store.begin().await?;
    ensure_refused!(work.put_chain(&of_nothing).await, StoreError::Missing(_));
    Ok(())
}

/// A point counts as the domain says: succeeded, with an image, and not being deleted.
pub async fn stats_follow_the_domain(store: &dyn Store) -> Outcome {
    ensure!(store.view().await?.backup_stats().await? == BackupStats::default());
    let (one, two) = (back_up(store, 1).await?, back_up(store, 2).await?);
    let fault = Fault::new("a/b", "c");
    let mut deleting = one.jobs[0].clone();
    deleting.deleting_since = Some(at(50));
    let mut failed = one.jobs[1].clone();
    failed.state = JobState::Failed { started: None, finished: at(9), fault };
    let mut running = two.jobs[0].clone();
    running.state = JobState::Running { started: at(8) };
    let mut work = store.begin().await?;
    for job in [&mut deleting, &mut failed, &mut running] {
        work.update_backup(job).await?;
    }
    work.commit().await?;
    let stats = store.view().await?.backup_stats().await?;
    let expected = BackupStats {
        jobs: 4,
        points: 1,
        failed: 1,
        active: 1,
        stored_bytes: 1_000,
        ..BackupStats::default()
    };
    ensure!(stats == expected, "{stats:?}");
    Ok(())
}

/// Why a chain is suspect is kept with each of its points, and both are counted: points that relied on the source, and
/// chains that the next backup would have stood on.
pub async fn suspicions_are_kept_and_counted(store: &dyn Store) -> Outcome {
    let BackedUp { run, jobs, .. } = back_up(store, 1).await?;
    let lie = Lie { offset: BIG, blocks: 3, expected: "00".repeat(32), found: "ab".repeat(32) };
    let suspicion = Suspicion { found_by: jobs[1].id, found_at: at(60), lie };
    let (mut full, mut other) = (jobs[0].clone(), jobs[1].clone());
    full.suspicion = Some(suspicion.clone());
    let mut point = standing_on(&full, 300);
    point.suspicion = None;
    point.method = CopyMethod::CHANGED_SINCE.to_owned();
    let mut next = run.clone();
    next.id = BackupRunId::from_uuid(Uuid::from_u128(0x77));
    point.run = next.id;
    let chain = BackupChain {
        key: point.chain_key(),
        full: full.id,
        latest: point.id,
        count: 2,
        stored_bytes: 2_000,
    };
    let mut work = store.begin().await?;
    work.update_backup(&mut full).await?;
    work.insert_backup_run(&next, std::slice::from_ref(&point)).await?;
    work.put_chain(&chain).await?;
    work.commit().await?;
    ensure!(store.view().await?.backup(full.id).await? == Some(full.clone()));
    let counted = |stats: BackupStats| (stats.suspect, stats.suspect_chains);
    let counts = counted(store.view().await?.backup_stats().await?);
    ensure!(counts == (0, 0), "the full is right whatever its chain is: {counts:?}");
    let mut work = store.begin().await?;
    other.suspicion = Some(suspicion.clone());
    other.method = CopyMethod::CHANGED_SINCE.to_owned();
    other.deleting_since = Some(at(61));
    work.update_backup(&mut other).await?;
    point.suspicion = Some(suspicion);
    work.update_backup(&mut point).await?;
    work.commit().await?;
    let counts = counted(store.view().await?.backup_stats().await?);
    ensure!(counts == (1, 1), "{counts:?}");
    let found = store.view().await?.suspicions().await?;
    ensure!((found.points, found.chains) == counts, "{found:?}");
    Ok(())
}

/// A job cannot stand on what is not stored, nor lie where no repository is.
pub async fn a_parent_must_exist(store: &dyn Store) -> Outcome {
    let BackedUp { vm, repository, jobs, .. } = back_up(store, 1).await?;
    let mut next = run(2, &vm, &repository);
    let mut orphan = standing_on(&jobs[0], 300);
    orphan.run = next.id;
    orphan.parent = Some(BackupJobId::from_uuid(Uuid::from_u128(9)));
    let mut work = store.begin().await?;
    let inserted = work.insert_backup_run(&next, &[orphan]).await;
    ensure_refused!(inserted, StoreError::Missing(_));
    drop(work);
    ensure!(store.view().await?.backup_run(next.id).await?.is_none());
    next.repository = RepositoryId::from_uuid(Uuid::from_u128(9));
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_backup_run(&next, &[]).await, StoreError::Missing(_));
    Ok(())
}
