//! Restores leave a finished file or nothing.

use anyhow::{Context, Result};
use hub_domain::ids::RestoreJobId;
use hub_domain::job::JobStatus;
use hub_domain::restore::{RestoreFormat, RestoreJob};
use hub_ports::{Classify, Store};
use hub_testkit::{Break, Fault};
use tokio_util::sync::CancellationToken;

use super::{Fixture, point_id};
use crate::RestoreRequest;

fn request(file_name: Option<&str>) -> RestoreRequest {
    RestoreRequest {
        point: point_id(2),
        format: RestoreFormat::Raw,
        file_name: file_name.map(ToOwned::to_owned),
    }
}

async fn stored(fixture: &Fixture, id: RestoreJobId) -> Result<RestoreJob> {
    fixture.store.view().await?.restore(id).await?.context("the restore")
}

#[tokio::test(start_paused = true)]
async fn a_point_is_restored_under_its_own_name() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (job, new) = fixture.engine.start_restore(&request(None)).await?;
    assert!(new);
    fixture.engine.run_restore(job.id, CancellationToken::new()).await?;
    let job = stored(&fixture, job.id).await?;
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    assert_eq!((job.bytes_total, job.bytes_done), (1 << 20, 1 << 20));
    assert_eq!(fixture.storage.restored_files(), [format!("{}.raw", point_id(2))]);
    fixture.engine.run_restore(job.id, CancellationToken::new()).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p8_one_file_has_one_restore() -> Result<()> {
    let fixture = Fixture::new().await?;
    let wanted = request(Some("a.raw"));
    let (one, other) =
        tokio::join!(fixture.engine.start_restore(&wanted), fixture.engine.start_restore(&wanted));
    let ((one, first), (other, second)) = (one?, other?);
    assert_eq!(one.id, other.id);
    assert!(first != second);
    let another = RestoreRequest { format: RestoreFormat::Qcow2, ..wanted };
    let refused = fixture.engine.start_restore(&another).await;
    assert_eq!(refused.map_err(|error| error.code()).err(), Some("restore/file-in-use"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn trap_c13_names_that_lead_elsewhere_are_refused_at_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    for name in ["", "../a", "/etc/passwd", "a/b", ".a", "a\0", "a.partial"] {
        let refused = fixture.engine.start_restore(&request(Some(name))).await;
        assert_eq!(
            refused.map_err(|error| error.code()).err(),
            Some("restore/file-name"),
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_at_every_step_nothing_unfinished_is_left() -> Result<()> {
    for step in 1.. {
        let fixture = Fixture::new().await?;
        let (job, _) = fixture.engine.start_restore(&request(None)).await?;
        fixture.steps.break_at(step, Break::Fail);
        fixture.engine.run_restore(job.id, CancellationToken::new()).await?;
        assert!(fixture.storage.partial_files().is_empty(), "step {step}");
        let status = stored(&fixture, job.id).await?.state.status();
        if !fixture.steps.reached() {
            assert_eq!(status, JobStatus::Succeeded);
            assert!(step > 4, "only {step} steps");
            break;
        }
        assert_eq!(status, JobStatus::Failed, "step {step}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p2_after_a_kill_at_every_step_the_job_is_named_and_the_rest_removed() -> Result<()> {
    for step in 1.. {
        let fixture = Fixture::new().await?;
        let (job, _) = fixture.engine.start_restore(&request(None)).await?;
        fixture.steps.break_at(step, Break::Hang);
        let killed = tokio::time::timeout(
            std::time::Duration::from_secs(60),
            fixture.engine.run_restore(job.id, CancellationToken::new()),
        )
        .await;
        if killed.is_ok() {
            assert!(step > 4, "only {step} steps");
            break;
        }
        fixture.steps.heal();
        fixture.engine.recover().await?;
        fixture.engine.recover().await?;
        let job = stored(&fixture, job.id).await?;
        assert_eq!(job.state.status(), JobStatus::Interrupted, "step {step}");
        assert!(fixture.storage.partial_files().is_empty(), "step {step}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p4_damaged_bytes_fail_the_restore() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.storage.set_fault(Some(Fault::Damaged));
    let (job, _) = fixture.engine.start_restore(&request(None)).await?;
    fixture.engine.run_restore(job.id, CancellationToken::new()).await?;
    let job = stored(&fixture, job.id).await?;
    assert_eq!(job.state.fault().map(|fault| fault.code.as_str()), Some("repository/damaged"));
    assert!(fixture.storage.restored_files().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn p9_cancelling_ends_the_job_and_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (job, _) = fixture.engine.start_restore(&request(None)).await?;
    let stop = CancellationToken::new();
    let work = fixture.engine.run_restore(job.id, stop.clone());
    let cancel = async {
        while stored(&fixture, job.id).await?.state.status() == JobStatus::Queued {
            tokio::task::yield_now().await;
        }
        fixture.engine.cancel_restore(job.id).await?;
        stop.cancel();
        anyhow::Ok(())
    };
    let (done, cancelled) = tokio::join!(work, cancel);
    done?;
    cancelled?;
    assert_eq!(stored(&fixture, job.id).await?.state.status(), JobStatus::Cancelled);
    assert!(fixture.storage.partial_files().is_empty());
    assert!(fixture.storage.restored_files().is_empty());
    let unknown = fixture.engine.cancel_restore(RestoreJobId::from_uuid(uuid::Uuid::nil())).await;
    assert_eq!(unknown.map_err(|error| error.code()).err(), Some("job/not-found"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_stops_no_recovery() -> Result<()> {
    let fixture = Fixture::new().await?;
    let (one, _) = fixture.engine.start_restore(&request(Some("one.raw"))).await?;
    let (other, _) = fixture.engine.start_restore(&request(Some("other.raw"))).await?;
    fixture.store.garble("restore_jobs", one.id);
    fixture.engine.recover().await?;
    assert_eq!(stored(&fixture, other.id).await?.state.status(), JobStatus::Interrupted);
    fixture.store.mend();
    assert_eq!(stored(&fixture, one.id).await?.state, one.state);
    Ok(())
}
