//! Sources that are audited, and what becomes of a chain whose source has lied.

use hub_domain::audit::{AuditRuns, Lie};
use hub_domain::backup::{BackupJob, BackupType};
use hub_domain::chain::{MAX_CHAIN_LENGTH, audit_runs_in_chain};
use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::source::CopyMethod;
use hub_ports::Store;
use hub_testkit::{Break, CopyScript, Fault as StorageFault};
use tokio::time::{Duration, timeout};

use crate::StartBackup;
use crate::bench::{Bench, FULL, INCREMENTAL};

fn lie() -> Lie {
    Lie { offset: 65_536, blocks: 2, expected: "00".repeat(32), found: "ab".repeat(32) }
}

/// A script in which the first disk is found to have left out a change.
pub(super) async fn lying(bench: &Bench) -> anyhow::Result<CopyScript> {
    let key = bench.disks().await?[0].facts.key.clone();
    let lies = [(key, lie())].into_iter().collect();
    Ok(CopyScript { lies, steps: 10, ..CopyScript::default() })
}

/// The jobs of the first disk.
pub(super) async fn of_first_disk(bench: &Bench) -> anyhow::Result<Vec<BackupJob>> {
    Ok(bench.jobs().await?.into_iter().filter(|job| job.ordinal == 0).collect())
}

#[tokio::test(start_paused = true)]
async fn the_audit_goes_on_where_the_last_point_left_it() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    assert!(bench.vma.orders()[0].disks.iter().all(|it| it.audit.is_none()), "all is read");
    let capacity = bench.jobs().await.unwrap()[0].capacity.bytes();
    let part = capacity.div_ceil(63);
    bench.back_up(INCREMENTAL).await.unwrap();
    let failing = bench.disks().await.unwrap()[0].facts.key.clone();
    let fault = Fault::new("source/unreadable", "sector 7");
    let failing = [(failing, fault)].into_iter().collect();
    bench.vma.script(CopyScript { failing, ..CopyScript::default() });
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Failed);
    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    let falls_back = Some((CopyMethod::ByDigest, "in doubt".to_owned()));
    bench.vma.script(CopyScript { falls_back, audits_at: 100, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.vma.script(CopyScript::default());
    bench.back_up(FULL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let ordered: Vec<_> = bench
        .vma
        .orders()
        .iter()
        .map(|order| order.disks[0].audit.map(|audit| (audit.from / part, audit.runs)))
        .collect();
    let at = |place| Some((place, audit_runs_in_chain(AuditRuns::DEFAULT)));
    // A run that failed is repeated; one that read everything, and a full, pass the place on.
    assert_eq!(ordered, [None, at(0), at(1), at(1), at(2), None, at(2)]);
    let jobs = of_first_disk(&bench).await.unwrap();
    assert_eq!((jobs[1].audited.bytes, jobs[1].audited.next), (part, part));
    assert_eq!((jobs[4].audited.bytes, jobs[4].audited.next), (0, 2 * part));
}

/// Promise P7, at the rate that nobody has chosen: a change that was left out in the first run of a chain, at the very
/// end of the disk, is found before the chain is as long as it may be.
#[tokio::test(start_paused = true)]
async fn a_lie_in_the_last_stretch_is_found_before_the_chain_ends_by_its_length() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let disk = bench.disks().await.unwrap()[0].facts.clone();
    let lie = Lie { offset: disk.capacity.bytes() - 1, ..lie() };
    let hidden = [(disk.key, lie.clone())].into_iter().collect();
    bench.vma.script(CopyScript { hidden, ..CopyScript::default() });
    let mut jobs = Vec::new();
    for _ in 1..MAX_CHAIN_LENGTH {
        bench.back_up(INCREMENTAL).await.unwrap();
        jobs = of_first_disk(&bench).await.unwrap();
        if jobs[0].suspicion.is_some() {
            break;
        }
    }
    let found = jobs[0].suspicion.as_ref().map(|it| (&it.lie, it.found_by));
    let finder = jobs.last().unwrap();
    assert_eq!(found, Some((&lie, finder.id)), "not found in {} incrementals", jobs.len() - 1);
    assert_eq!(finder.backup_type, INCREMENTAL, "before the chain ends");
}

/// A chain that was ended by a full is audited as a whole by that full, at the rate that nobody has chosen: what was
/// left out is found, wherever the audit by parts had come to.
#[tokio::test(start_paused = true)]
async fn a_full_in_between_finds_what_its_chain_before_was_denied() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let disk = bench.disks().await.unwrap()[0].facts.clone();
    let lie = Lie { offset: disk.capacity.bytes() - 1, ..lie() };
    let hidden = [(disk.key, lie.clone())].into_iter().collect();
    bench.vma.script(CopyScript { hidden, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let marked = of_first_disk(&bench).await.unwrap();
    assert!(marked.iter().all(|it| it.suspicion.is_none()), "the audit by parts is not there yet");
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    let jobs = of_first_disk(&bench).await.unwrap();
    let full = &jobs[3];
    for job in &jobs[..3] {
        let suspicion = job.suspicion.as_ref().unwrap();
        assert_eq!((suspicion.found_by, &suspicion.lie), (full.id, &lie));
    }
    let suspect: Vec<_> = jobs.iter().map(BackupJob::is_suspect).collect();
    assert_eq!(suspect, [false, true, true, false], "the full stands on its own");
    assert_eq!((&full.suspicion, full.method.as_str()), (&None, "full"));
    assert_eq!(full.audited.next, jobs[2].audited.next, "the place is passed on");
    let order = bench.vma.orders()[3].disks[0].clone();
    assert!(order.audit.is_none() && order.chain_audit.is_some());
    let others = bench.jobs().await.unwrap().into_iter().filter(|job| job.ordinal == 1);
    let others: Vec<_> = others.collect();
    assert!(others.iter().all(|job| job.suspicion.is_none()), "the other disk told the truth");
    assert_eq!(others[3].method_reason, None, "its chain was audited, and nothing was found");
    let stats = bench.store.view().await.unwrap().backup_stats().await.unwrap();
    assert_eq!((stats.suspect, stats.suspect_chains), (2, 0));

    // Its mark is the word of the same source: the next run reads everything, the one after that by parts again.
    assert_eq!(
        (&full.change_id, bench.storage.identity(full.id).unwrap().change_id),
        (&None, None)
    );
    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let jobs = of_first_disk(&bench).await.unwrap();
    assert_eq!((jobs[4].parent, jobs[4].method.as_str()), (Some(full.id), "by_digest"));
    assert!(jobs[4].method_reason.as_ref().unwrap().contains("left out changes"));
    assert_eq!(jobs[5].method, "changed_since");
    assert!(bench.storage.open_exports().is_empty(), "the digests are not on offer any more");
    bench.assert_nothing_left().await.unwrap();
}

/// The full that the length of a chain asks for audits it as well; one that ends a suspect chain has nothing to find.
#[tokio::test(start_paused = true)]
async fn a_full_by_length_audits_its_chain_and_one_after_a_lie_does_not() {
    let bench = Bench::new().await.unwrap();
    for _ in 0..MAX_CHAIN_LENGTH {
        bench.back_up(INCREMENTAL).await.unwrap();
    }
    bench.vma.script(lying(&bench).await.unwrap());
    bench.back_up(INCREMENTAL).await.unwrap();
    let jobs = of_first_disk(&bench).await.unwrap();
    let full = jobs.last().unwrap();
    assert_eq!((full.backup_type, full.parent), (BackupType::Full, None));
    assert!(jobs.iter().rev().skip(1).all(|it| it.suspicion.is_some()));

    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.vma.script(lying(&bench).await.unwrap());
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let full = &bench.vma.orders()[2].disks[0];
    assert_eq!((&full.method, &full.chain_audit), (&CopyMethod::Full, &None));
}

/// What a full cannot audit is said on it: an old VMA, and a chain whose digests cannot be read.
#[tokio::test(start_paused = true)]
async fn a_full_that_audits_nothing_says_so_and_succeeds() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.vma.script(CopyScript { audits_at: 100, ..CopyScript::default() });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    bench.storage.set_fault(Some(StorageFault::NoParent));
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    bench.storage.set_fault(None);
    for says in ["tracking is refused", "it was not audited"] {
        let falls_back = Some((CopyMethod::Full, says.to_owned()));
        bench.vma.script(CopyScript { falls_back, audits_at: 100, ..CopyScript::default() });
        assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    }
    let jobs = of_first_disk(&bench).await.unwrap();
    let told: Vec<_> = jobs.iter().map(|it| it.method_reason.clone().unwrap_or_default()).collect();
    assert_eq!(told[0], "", "there was no chain before");
    assert!(told[1].contains("not audited") && told[1].contains("update it"), "{}", told[1]);
    assert!(told[2].contains("not audited") && told[2].contains("missing"), "{}", told[2]);
    assert!(told[3].contains("is refused") && told[3].contains("update it"), "{}", told[3]);
    assert_eq!(told[3].matches("is refused").count(), 1, "{}", told[3]);
    assert_eq!(told[4], "it was not audited", "a VMA that knows how says itself why it did not");
    assert!(jobs[1].change_id.is_some() && jobs[2].change_id.is_some());
}

/// A copy that goes on with what is kept reads everything, and audits its chain on the way.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_goes_on_by_digest_audits_the_chain() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let disk = bench.disks().await.unwrap()[0].facts.clone();
    let lie = Lie { offset: disk.capacity.bytes() - 1, ..lie() };
    let hidden: std::collections::BTreeMap<_, _> = [(disk.key, lie)].into_iter().collect();
    let forgets_at = Some(5);
    bench.vma.script(CopyScript { steps: 10, forgets_at, hidden, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    let orders = bench.vma.orders();
    assert!(orders[1].disks[0].chain_audit.is_none(), "it is audited by parts");
    assert!(orders[2].disks[0].chain_audit.is_some(), "{:?}", orders[2].disks[0]);
    assert!(bench.storage.open_exports().is_empty());
}

/// Whenever the hub dies, the full that a run becomes has marked the chain before it.
#[tokio::test(start_paused = true)]
async fn a_lie_that_a_full_finds_survives_a_hub_that_dies_at_any_step() {
    let prepared = async || -> anyhow::Result<_> {
        let bench = Bench::new().await?;
        bench.back_up(FULL).await?;
        bench.back_up(INCREMENTAL).await?;
        bench.vma.script(lying(&bench).await?);
        let run = bench.start(FULL).await?;
        bench.steps.heal();
        Ok((bench, run))
    };
    let (whole, run) = prepared().await.unwrap();
    whole.run(run).await.unwrap();
    for step in 1..=whole.steps.log().len() {
        let (bench, run) = prepared().await.unwrap();
        bench.steps.break_at(step, Break::Hang);
        let _ = timeout(Duration::from_secs(900), bench.run(run)).await;
        assert!(bench.steps.reached(), "step {step}");
        bench.steps.heal();
        bench.next_hub().await.unwrap();
        let jobs = of_first_disk(&bench).await.unwrap();
        if jobs[2].is_restore_point() {
            assert!(jobs[1].is_suspect(), "step {step}: the lie was passed over");
        }
        bench.assert_nothing_left().await.unwrap();
    }
}

/// Trap U36: a VMA from before the audit ignores its order, and nobody would look for what it does not find.
#[tokio::test(start_paused = true)]
async fn trap_u36_a_vma_that_makes_no_audit_is_a_reason_on_the_job() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.vma.script(CopyScript { audits_at: 100, ..CopyScript::default() });
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
    let falls_back = Some((CopyMethod::ByDigest, "in doubt".to_owned()));
    bench.vma.script(CopyScript { falls_back, audits_at: 100, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    let jobs = of_first_disk(&bench).await.unwrap();
    let told: Vec<_> = jobs.iter().map(|it| it.method_reason.clone().unwrap_or_default()).collect();
    assert_eq!(
        (told[0].as_str(), told[1].as_str()),
        ("", ""),
        "there was an audit, or nothing to audit"
    );
    assert!(told[2].contains("not audited") && told[2].contains("update"), "{}", told[2]);
    assert_eq!((jobs[2].method.as_str(), jobs[2].audited.blocks), ("changed_since", 0));
    assert_eq!(jobs[2].audited.next, jobs[1].audited.next, "the place stays for a VMA that audits");
    assert_eq!(told[3], "in doubt", "what was read as a whole needs none");
}

#[tokio::test(start_paused = true)]
async fn a_run_may_say_itself_how_closely_it_audits() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let audit_runs = AuditRuns::new(7).ok();
    let request = StartBackup { audit_runs, ..bench.request(INCREMENTAL) };
    let started = bench.backup.start(&request).await.unwrap();
    assert_eq!(started.run.audit_runs, audit_runs);
    let other = bench.backup.start(&bench.request(INCREMENTAL)).await;
    assert!(other.is_err(), "another number of runs is another request");
    bench.run(started.run.id).await.unwrap();
    assert_eq!(bench.vma.orders()[1].disks[0].audit.map(|it| it.runs), audit_runs);
}

/// Trap U36: the run that finds a lie is right, everything that it stands on is marked, and the next run begins anew.
#[tokio::test(start_paused = true)]
async fn trap_u36_a_lie_marks_the_chain_and_the_next_run_is_a_full() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.vma.script(lying(&bench).await.unwrap());
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
    let jobs = of_first_disk(&bench).await.unwrap();
    let finder = &jobs[2];
    assert_eq!((finder.method.as_str(), finder.backup_type), ("by_digest", INCREMENTAL));
    for job in &jobs {
        let suspicion = job.suspicion.as_ref().unwrap();
        assert_eq!((suspicion.found_by, &suspicion.lie), (finder.id, &lie()));
    }
    let suspect: Vec<_> = jobs.iter().map(BackupJob::is_suspect).collect();
    assert_eq!(
        suspect,
        [false, true, false],
        "what was read as a whole holds what the source held"
    );
    let others = bench.jobs().await.unwrap().into_iter().filter(|job| job.ordinal == 1);
    assert!(others.into_iter().all(|job| job.suspicion.is_none()), "the other disk told the truth");
    let stats = bench.store.view().await.unwrap().backup_stats().await.unwrap();
    assert_eq!((stats.suspect, stats.suspect_chains), (1, 1));

    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    let full = of_first_disk(&bench).await.unwrap().remove(3);
    assert_eq!((full.backup_type, full.parent, full.suspicion), (BackupType::Full, None, None));
    assert!(full.method_reason.unwrap().contains(&finder.id.to_string()));
    let stats = bench.store.view().await.unwrap().backup_stats().await.unwrap();
    assert_eq!((stats.suspect, stats.suspect_chains), (1, 0));
    bench.back_up(INCREMENTAL).await.unwrap();
    let next = of_first_disk(&bench).await.unwrap().remove(4);
    assert_eq!((next.parent, next.method.as_str()), (Some(full.id), "changed_since"));
    bench.assert_nothing_left().await.unwrap();
}

/// The mark does not hang on the point that found the lie: it may go, and the others stay what they are.
#[tokio::test(start_paused = true)]
async fn a_chain_stays_suspect_without_the_backup_that_found_it() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let mut script = lying(&bench).await.unwrap();
    let key = bench.disks().await.unwrap()[0].facts.key.clone();
    script.failing = [(key, Fault::new("source/unreadable", "sector 7"))].into_iter().collect();
    bench.vma.script(script.clone());
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Failed);
    let jobs = of_first_disk(&bench).await.unwrap();
    assert!(jobs[0].suspicion.is_some() && !jobs[1].is_restore_point());
    bench.backup.delete(jobs[1].id).await.unwrap();
    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    assert_eq!(of_first_disk(&bench).await.unwrap()[1].backup_type, BackupType::Full);
}

/// Whenever the hub dies, a lie that was told is marked, or found again; it is never passed over.
#[tokio::test(start_paused = true)]
async fn a_lie_survives_a_hub_that_dies_at_any_step() {
    let whole = Bench::new().await.unwrap();
    whole.back_up(FULL).await.unwrap();
    whole.vma.script(lying(&whole).await.unwrap());
    let run = whole.start(INCREMENTAL).await.unwrap();
    whole.steps.heal();
    whole.run(run).await.unwrap();
    let steps = whole.steps.log().len();
    let mut marked = Vec::new();
    for step in 1..=steps {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        bench.vma.script(lying(&bench).await.unwrap());
        let run = bench.start(INCREMENTAL).await.unwrap();
        bench.steps.break_at(step, Break::Hang);
        let _ = timeout(Duration::from_secs(900), bench.run(run)).await;
        assert!(bench.steps.reached(), "step {step}");
        bench.steps.heal();
        marked.push(of_first_disk(&bench).await.unwrap()[0].suspicion.is_some());
        bench.next_hub().await.unwrap();
        let jobs = of_first_disk(&bench).await.unwrap();
        let (full, next) = (&jobs[0], &jobs[1]);
        let is_right = next.backup_type == BackupType::Full || next.method == "by_digest";
        assert!(is_right || !next.is_restore_point(), "step {step}: {next:?}");
        if next.is_restore_point() {
            assert!(full.suspicion.is_some(), "step {step}: the lie was passed over");
            let begins_anew = next.backup_type == BackupType::Full;
            assert_eq!(next.suspicion.is_none(), begins_anew, "step {step}: a chain of its own");
        }
        bench.assert_nothing_left().await.unwrap();
    }
    assert!(marked.contains(&true) && marked.contains(&false), "{marked:?}");
}

/// What an attempt has brought may hide what its audit would have found, so it is kept only once that is known.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_audit_was_not_heard_of_begins_anew() {
    for (audits_at, kept) in [(100, false), (1, true)] {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        bench.vma.script(CopyScript {
            steps: 10,
            forgets_at: Some(5),
            audits_at,
            ..CopyScript::default()
        });
        bench.back_up(INCREMENTAL).await.unwrap();
        let orders = bench.vma.orders();
        assert!(orders.len() > 2, "there was another attempt");
        let again = &orders[2].disks[0];
        assert_eq!(again.method == CopyMethod::ByDigest, kept, "audits_at {audits_at}");
        assert_eq!(again.audit.is_none(), kept);
        bench.assert_nothing_left().await.unwrap();
    }
}
