//! A replication broken at every single step, by an error and by a kill.

use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::job::{JobState, JobStatus};
use hub_domain::replication::ReplicationKind;
use hub_domain::vm::ContextStatus;
use hub_testkit::{Break, CopyScript};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bench::{AGES, Bench, ended, request};

use ReplicationKind::{Incremental, Initial};

/// Ways that a copy can go.
fn scripts() -> anyhow::Result<Vec<CopyScript>> {
    let key = DiskKey::new("disk-2000")?;
    let failing = [(key, Fault::new("source/io", "a sector cannot be read"))].into();
    Ok(vec![
        CopyScript::default(),
        CopyScript { failing, ..CopyScript::default() },
        CopyScript { stuck_at: Some(1), ..CopyScript::default() },
    ])
}

async fn benches(script: &CopyScript) -> anyhow::Result<[Bench; 2]> {
    let benches = [Bench::new().await?, Bench::legacy(1).await?];
    for bench in &benches {
        bench.vma.script(script.clone());
    }
    Ok(benches)
}

/// After whatever happened: nothing is left over, and the next replication succeeds on the same rows.
async fn goes_on(bench: &Bench, told: Told) -> anyhow::Result<()> {
    if told == Told::All {
        bench.is_tidy().await?;
    }
    let before: Vec<i64> = bench.links().await?.into_iter().map(|(id, _)| id).collect();
    bench.vma.script(CopyScript::default());
    let job = bench.replicate(Incremental).await?;
    anyhow::ensure!(job.state.status() == JobStatus::Succeeded, "{job:?}");
    let after: Vec<i64> = bench.links().await?.into_iter().map(|(id, _)| id).collect();
    anyhow::ensure!(before.is_empty() || before == after, "other rows: {before:?} {after:?}");
    anyhow::ensure!(bench.standing().await? == ContextStatus::ReadyForFailover, "not ready");
    if told == Told::All { bench.is_tidy().await } else { Ok(()) }
}

async fn nothing_was_begun(bench: &Bench) -> anyhow::Result<()> {
    let links = bench.links().await?;
    anyhow::ensure!(links.iter().all(|(_, job)| job.is_none()), "linked: {links:?}");
    anyhow::ensure!(bench.standing().await? == ContextStatus::Discovered, "it has moved on");
    Ok(())
}

/// Whether the VMA could be told to end its copy; where that very call hangs, it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    All,
    NotTheVma,
}

fn told(bench: &Bench, step: usize) -> Told {
    match bench.steps.log().get(step - 1) {
        Some(call) if call == "vma.cancel_copy" => Told::NotTheVma,
        _ => Told::All,
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_at_any_step_ends_the_job_in_a_named_state_without_a_restart() {
    for script in scripts().unwrap() {
        for step in 1.. {
            let mut reached = false;
            for bench in benches(&script).await.unwrap() {
                bench.steps.break_at(step, Break::Fail);
                let id = match bench.engine.start(&request(Initial)).await {
                    Ok(started) => started.job.id,
                    Err(_) => {
                        reached |= bench.steps.reached();
                        bench.steps.heal();
                        let Some(stored) = bench.jobs().await.unwrap().pop() else {
                            nothing_was_begun(&bench).await.unwrap();
                            goes_on(&bench, Told::All).await.unwrap();
                            continue;
                        };
                        // The answer to its commit was lost; the hub looks for jobs that nobody has, and finds it.
                        assert_eq!(stored.state, JobState::Queued, "at step {step}");
                        stored.id
                    }
                };
                let run = bench.engine.run(id, CancellationToken::new());
                timeout(AGES, run).await.unwrap().unwrap();
                reached |= bench.steps.reached();
                bench.steps.heal();
                let job = bench.job(id).await.unwrap();
                let succeeded = job.state.status() == JobStatus::Succeeded;
                assert!(succeeded || ended(&job).1.is_some(), "at step {step}: {job:?}");
                assert!(!succeeded || bench.replicas.complete() == 2, "at step {step}");
                goes_on(&bench, Told::All).await.unwrap();
            }
            if !reached {
                assert!(step > 20, "the steps are counted");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn promise_p2_a_kill_at_any_step_is_mended_by_the_next_start() {
    for script in scripts().unwrap() {
        for step in 1.. {
            let mut reached = false;
            for bench in benches(&script).await.unwrap() {
                bench.steps.break_at(step, Break::Hang);
                let whole = async {
                    let job = bench.start(Initial).await?;
                    bench.run(job.id).await
                };
                let survived = timeout(AGES, whole).await.is_ok();
                reached |= bench.steps.reached();
                let told = told(&bench, step);
                bench.steps.heal();
                bench.replicas.restart();
                bench.engine.recover().await.unwrap();
                let jobs = bench.jobs().await.unwrap();
                bench.engine.recover().await.unwrap();
                assert_eq!(bench.jobs().await.unwrap(), jobs, "recovering twice is once");
                bench.next_hub().await.unwrap();
                let jobs = bench.jobs().await.unwrap();
                if !survived && let [job] = jobs.as_slice() {
                    let (status, code) = ended(job);
                    let named = matches!(
                        (status, code),
                        (JobStatus::Succeeded, None) | (JobStatus::Failed, Some(_))
                    );
                    assert!(named, "at step {step}: {job:?}");
                }
                goes_on(&bench, told).await.unwrap();
            }
            if !reached {
                assert!(step > 20, "the steps are counted");
                break;
            }
        }
    }
}
