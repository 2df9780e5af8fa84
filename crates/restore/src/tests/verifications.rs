//! Verifications end with a verdict, whatever happens on the way.

use std::time::Duration;

use anyhow::{Context, Result};
use hub_domain::ids::VerificationId;
use hub_domain::job::JobStatus;
use hub_domain::restore::{Verification, VerificationScope};
use hub_ports::{Classify, Store};
use hub_testkit::{Break, Fault};
use tokio_util::sync::CancellationToken;

use super::{Fixture, point_id};

async fn stored(fixture: &Fixture, id: VerificationId) -> Result<Verification> {
    fixture.store.view().await?.verification(id).await?.context("the verification")
}

async fn run(fixture: &Fixture, scope: VerificationScope) -> Result<Verification> {
    let (job, new) = fixture.engine.start_verification(point_id(2), scope).await?;
    assert!(new);
    fixture.engine.run_verification(job.id, CancellationToken::new()).await?;
    stored(fixture, job.id).await
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_verified_from_the_full_upwards() -> Result<()> {
    let fixture = Fixture::new().await?;
    let job = run(&fixture, VerificationScope::Chain).await?;
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    let points: Vec<_> = job.verdicts.iter().map(|verdict| verdict.point).collect();
    assert_eq!(points, [point_id(1), point_id(2)]);
    assert!(job.first_bad().is_none());
    assert_eq!((job.bytes_total, job.bytes_done), (2 << 20, 2 << 20));
    let job = run(&fixture, VerificationScope::Point).await?;
    assert_eq!(job.verdicts.len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p4_damage_is_the_result_and_names_the_first_bad_point() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.storage.set_fault(Some(Fault::Damaged));
    let job = run(&fixture, VerificationScope::Chain).await?;
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    let bad = job.first_bad().context("no damage was found")?;
    assert_eq!((bad.point, bad.mismatches[0].offset), (point_id(1), 4096));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p8_the_same_request_twice_is_one_job() -> Result<()> {
    let fixture = Fixture::new().await?;
    let chain = VerificationScope::Chain;
    let (one, other) = tokio::join!(
        fixture.engine.start_verification(point_id(2), chain),
        fixture.engine.start_verification(point_id(2), chain),
    );
    let ((one, first), (other, second)) = (one?, other?);
    assert_eq!(one.id, other.id);
    assert!(first != second);
    let (third, new) =
        fixture.engine.start_verification(point_id(2), VerificationScope::Point).await?;
    assert!(new && third.id != one.id);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_restore_point_is_refused_with_its_state() -> Result<()> {
    let fixture = Fixture::new().await?;
    let chain = VerificationScope::Chain;
    let unknown = fixture.engine.start_verification(point_id(9), chain).await;
    assert_eq!(unknown.map_err(|error| error.code()).err(), Some("backup/not-found"));
    fixture.change_point(2, |job| job.deleting_since = Some(job.created_at)).await?;
    let deleting = fixture.engine.start_verification(point_id(2), chain).await;
    assert_eq!(deleting.map_err(|error| error.code()).err(), Some("backup/not-completed"));
    fixture.change_point(2, |job| job.deleting_since = None).await?;
    fixture.change_point(1, |job| job.deleting_since = Some(job.created_at)).await?;
    let broken = fixture.engine.start_verification(point_id(2), chain).await;
    assert_eq!(broken.map_err(|error| error.code()).err(), Some("backup/chain-incomplete"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p2_a_killed_hub_leaves_an_interrupted_job_asked_to_stop_or_not() -> Result<()> {
    let fixture = Fixture::new().await?;
    for asked in [true, false] {
        let (job, _) =
            fixture.engine.start_verification(point_id(2), VerificationScope::Chain).await?;
        fixture.steps.break_at(1, Break::Hang);
        let work = fixture.engine.run_verification(job.id, CancellationToken::new());
        let killed = tokio::time::timeout(Duration::from_secs(60), work).await;
        assert!(killed.is_err());
        if asked {
            fixture.engine.cancel_verification(job.id).await?;
            fixture.engine.cancel_verification(job.id).await?;
        }
        fixture.steps.heal();
        fixture.engine.recover().await?;
        fixture.engine.recover().await?;
        let status = stored(&fixture, job.id).await?.state.status();
        assert_eq!(status, JobStatus::Interrupted, "asked: {asked}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_is_cancelled_at_once_and_never_runs() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (job, _) = fixture.engine.start_verification(point_id(2), VerificationScope::Chain).await?;
    let job = fixture.engine.cancel_verification(job.id).await?;
    assert_eq!(job.state.status(), JobStatus::Cancelled);
    fixture.engine.run_verification(job.id, CancellationToken::new()).await?;
    assert_eq!(stored(&fixture, job.id).await?.state.status(), JobStatus::Cancelled);
    let again = fixture.engine.cancel_verification(job.id).await;
    assert_eq!(again.map_err(|error| error.code()).err(), Some("job/ended"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_token_that_fires_between_reads_tells_cancelled_from_interrupted() -> Result<()> {
    let fixture = Fixture::new().await?;
    for (asked, expected) in [(true, JobStatus::Cancelled), (false, JobStatus::Interrupted)] {
        let (job, _) =
            fixture.engine.start_verification(point_id(2), VerificationScope::Chain).await?;
        let stop = CancellationToken::new();
        let work = fixture.engine.run_verification(job.id, stop.clone());
        let cancel = async {
            while stored(&fixture, job.id).await?.state.status() == JobStatus::Queued {
                tokio::task::yield_now().await;
            }
            if asked {
                fixture.engine.cancel_verification(job.id).await?;
            }
            stop.cancel();
            anyhow::Ok(())
        };
        let (done, cancelled) = tokio::join!(work, cancel);
        done?;
        cancelled?;
        assert_eq!(stored(&fixture, job.id).await?.state.status(), expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_fails_the_job_with_a_code() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (job, _) = fixture.engine.start_verification(point_id(2), VerificationScope::Chain).await?;
    fixture.steps.break_at(3, Break::Fail);
    fixture.engine.run_verification(job.id, CancellationToken::new()).await?;
    let job = stored(&fixture, job.id).await?;
    assert_eq!(job.state.status(), JobStatus::Failed);
    assert_eq!(job.state.fault().map(|fault| fault.code.as_str()), Some("repository/io"));
    fixture.engine.recover().await?;
    assert_eq!(stored(&fixture, job.id).await?.state.status(), JobStatus::Failed);
    Ok(())
}
