//! A database that is away, a storage that hangs, and a wish to stop that only the catalogue knows.

use std::time::Duration;

use anyhow::{Context, Result};
use hub_domain::ids::{RestoreJobId, VerificationId};
use hub_domain::job::JobStatus;
use hub_domain::restore::{RestoreFormat, VerificationScope};
use hub_ports::Store;
use hub_testkit::Break;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Fixture, point_id};
use crate::RestoreRequest;

const AGES: Duration = Duration::from_secs(3600);

async fn start_restore(fixture: &Fixture) -> Result<RestoreJobId> {
    let format = RestoreFormat::Raw;
    let request = RestoreRequest { point: point_id(2), format, file_name: None };
    Ok(fixture.engine.start_restore(&request).await?.0.id)
}

async fn start_verification(fixture: &Fixture) -> Result<VerificationId> {
    let scope = VerificationScope::Chain;
    Ok(fixture.engine.start_verification(point_id(2), scope).await?.0.id)
}

async fn status(fixture: &Fixture, id: RestoreJobId) -> Result<JobStatus> {
    let job = fixture.store.view().await?.restore(id).await?.context("the restore")?;
    Ok(job.state.status())
}

#[tokio::test(start_paused = true)]
async fn p5_a_database_that_is_away_for_a_moment_costs_no_restore() -> Result<()> {
    for step in 1.. {
        let fixture = Fixture::new().await?;
        let id = start_restore(&fixture).await?;
        fixture.catalogue.break_at(step, Break::Fail);
        let ran = fixture.engine.run_restore(id, CancellationToken::new()).await;
        assert!(ran.is_ok(), "step {step}: {ran:?}");
        let reached = fixture.catalogue.reached();
        fixture.catalogue.heal();
        assert_eq!(status(&fixture, id).await?, JobStatus::Succeeded, "step {step}");
        if !reached {
            assert!(step > 4, "only {step} steps");
            break;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p5_a_database_that_is_away_for_a_moment_costs_no_verification() -> Result<()> {
    for step in 1.. {
        let fixture = Fixture::new().await?;
        let id = start_verification(&fixture).await?;
        fixture.catalogue.break_at(step, Break::Fail);
        let ran = fixture.engine.run_verification(id, CancellationToken::new()).await;
        assert!(ran.is_ok(), "step {step}: {ran:?}");
        let reached = fixture.catalogue.reached();
        fixture.catalogue.heal();
        let job = fixture.store.view().await?.verification(id).await?.context("it")?;
        assert_eq!(job.state.status(), JobStatus::Succeeded, "step {step}");
        assert_eq!(job.verdicts.len(), 2, "step {step}: one verdict per point");
        if !reached {
            assert!(step > 8, "only {step} steps");
            break;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn promise_p9_a_storage_that_hangs_does_not_outlive_a_cancel() -> Result<()> {
    for step in 1..=3 {
        let fixture = Fixture::new().await?;
        let (id, other) = (start_restore(&fixture).await?, start_verification(&fixture).await?);
        let stop = CancellationToken::new();
        fixture.steps.break_at(step, Break::Hang);
        let restoring = fixture.engine.run_restore(id, stop.clone());
        let cancel = async {
            sleep(Duration::from_secs(30)).await;
            fixture.engine.cancel_restore(id).await?;
            stop.cancel();
            anyhow::Ok(Instant::now())
        };
        let (ran, asked) = timeout(AGES, async { tokio::join!(restoring, cancel) }).await?;
        ran?;
        assert!(asked?.elapsed() < Duration::from_secs(10));
        assert_eq!(status(&fixture, id).await?, JobStatus::Cancelled);
        assert!(fixture.storage.partial_files().is_empty());
        let stop = CancellationToken::new();
        fixture.steps.break_at(step, Break::Hang);
        let verifying = fixture.engine.run_verification(other, stop.clone());
        let cancel = async {
            sleep(Duration::from_secs(30)).await;
            stop.cancel();
        };
        let (ran, ()) = timeout(AGES, async { tokio::join!(verifying, cancel) }).await?;
        ran?;
        let job = fixture.store.view().await?.verification(other).await?.context("it")?;
        assert_eq!(job.state.status(), JobStatus::Interrupted);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_catalogue_that_hangs_does_not_hold_the_work_up() -> Result<()> {
    let fixture = Fixture::new().await?;
    let id = start_restore(&fixture).await?;
    let stop = CancellationToken::new();
    // The work waits for a stop that comes while progress is being saved.
    fixture.steps.break_at(2, Break::Hang);
    let run = fixture.engine.run_restore(id, stop.clone());
    let hang = async {
        sleep(Duration::from_millis(500)).await;
        fixture.catalogue.break_at(1, Break::Hang);
        sleep(Duration::from_secs(30)).await;
        assert!(fixture.catalogue.reached(), "progress is being saved");
        stop.cancel();
    };
    let (ran, ()) = timeout(AGES, async { tokio::join!(run, hang) }).await?;
    ran?;
    assert_eq!(status(&fixture, id).await?, JobStatus::Interrupted);
    Ok(())
}
