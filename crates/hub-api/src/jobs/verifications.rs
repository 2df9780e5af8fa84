//! Verifications: a point, or a chain, compared block by block with its manifests.

use actix_web::{Error, web};
use chrono::{DateTime, Utc};
use hub_domain::ids::{BackupJobId, VerificationId};
use hub_domain::job::JobStatus as Status;
use hub_domain::restore::{PointVerdict, Verification};
use hub_job_runner::JobKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::launch::launch;
use crate::answer::{Answer, Response, State, accepted, bytes, id, percent};
use crate::malformed;
use crate::page::{After, Page, PageQuery};
use crate::problem::Problem;
use crate::state::Hub;
use crate::words::{Fault, JobStatus, VerificationScope};

/// What these jobs are called by the supervisor.
pub(crate) const KIND: &str = "verification";

const NOT_FOUND: &str = "verification/not-found";

/// How much to verify.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVerification {
    /// The whole chain unless given.
    #[serde(default = "chain")]
    #[schema(default = "chain")]
    scope: VerificationScope,
}

/// A verification.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(crate) struct VerificationView {
    id: Uuid,
    /// The point, or the tip of the chain.
    backup_id: Uuid,
    scope: VerificationScope,
    status: JobStatus,
    progress_percent: u8,
    bytes_total: i64,
    bytes_done: i64,
    /// Whether everything is what the manifests say; null until everything was looked at.
    good: Option<bool>,
    /// The first thing from the full upwards that is not; null when there is none.
    first_bad: Option<FirstBad>,
    /// Whether a point that is what its manifest says may lack changes, because its source was caught leaving some out;
    /// no verification can tell.
    suspect: bool,
    /// What was found, point by point, from the full upwards.
    points: Vec<VerdictView>,
    error: Option<Fault>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// The first damage of a chain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FirstBad {
    backup_id: Uuid,
    /// The disk's ordinal.
    disk_id: u32,
    /// First bad byte of the disk; null where the image or the manifest as a whole is damaged.
    offset: Option<i64>,
    what: String,
}

/// What was found at one point.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PointVerdict)]
pub(crate) struct VerdictView {
    backup_id: Uuid,
    /// The disk's ordinal.
    disk_id: u32,
    blocks_checked: i64,
    bad_blocks: i64,
    /// The first bad ones.
    mismatches: Vec<MismatchView>,
    /// What is wrong with the image or the manifest as a whole.
    damage: Option<String>,
    /// Whether changes may be missing in it although everything is as it was stored, because the source was caught
    /// leaving some out.
    suspect: bool,
}

/// Bytes that are not what the manifest says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mismatch)]
pub(crate) struct MismatchView {
    offset: i64,
    len: i64,
    what: String,
}

/// Verifies a point against its manifest; the same request while one runs answers that one.
#[utoipa::path(post, path = "/api/v1/backups/{id}/verify", tag = "verifications",
    params(("id" = Uuid, Path)), request_body = Option<NewVerification>,
    responses((status = 202, body = VerificationView)))]
pub(crate) async fn start(
    state: State,
    of: web::Path<String>,
    body: Result<web::Bytes, Error>,
) -> Response {
    let scope =
        malformed::optional_json::<NewVerification>(body)?.map_or_else(chain, |it| it.scope);
    let point: BackupJobId = id(&of, "backup/not-found", "backup")?;
    let started = state.carry_out(|hub| async move {
        let (job, _) = hub.restore.start_verification(point, scope.into()).await?;
        run(&hub, job.id)?;
        Ok(view(job))
    });
    started.await.map(|job| accepted(&location(job.id), &job))
}

/// Runs a stored job; a hub that is being stopped leaves it to the next one, which ends it.
pub(crate) fn take_up(hub: &Hub, id: VerificationId) {
    if run(hub, id).is_err() {
        tracing::info!(job.id = %id, "a verification waits for the next start of the hub");
    }
}

fn run(hub: &Hub, id: VerificationId) -> Result<(), Problem> {
    let engine = hub.restore.clone();
    let work = move |cancel| async move { engine.run_verification(id, cancel).await };
    launch(&hub.supervisor, KIND, id, work)
}

/// Verifications by id.
#[utoipa::path(get, path = "/api/v1/verifications", tag = "verifications", params(PageQuery),
    responses((status = 200, body = Page<VerificationView>)))]
pub(crate) async fn list(
    state: State,
    query: web::Query<PageQuery>,
) -> Answer<Page<VerificationView>> {
    let listed = state.ask(|hub| async move {
        let after = query.after.as_ref().map(After::id);
        let mut catalogue = hub.store.view().await?;
        let jobs = catalogue.verifications_page(after, query.limit.with_one_more()).await?;
        Ok(Page::of(jobs, query.limit, |job| job.id.to_string(), view))
    });
    listed.await.map(web::Json)
}

/// One verification.
#[utoipa::path(get, path = "/api/v1/verifications/{id}", tag = "verifications",
    params(("id" = Uuid, Path)), responses((status = 200, body = VerificationView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<VerificationView> {
    let found = state.ask(|hub| async move { Ok(view(find(&hub, &of).await?)) });
    found.await.map(web::Json)
}

/// Asks a verification to stop.
#[utoipa::path(post, path = "/api/v1/verifications/{id}/cancel", tag = "verifications",
    params(("id" = Uuid, Path)), responses((status = 202, body = VerificationView)))]
pub(crate) async fn cancel(state: State, of: web::Path<String>) -> Response {
    let cancelled = state.carry_out(|hub| async move {
        let job = find(&hub, &of).await?;
        let job = hub.restore.cancel_verification(job.id).await?;
        hub.supervisor.cancel(&JobKey::new(KIND, job.id));
        Ok(view(job))
    });
    cancelled.await.map(|job| accepted(&location(job.id), &job))
}

async fn find(hub: &Hub, text: &str) -> Result<Verification, Problem> {
    let job = hub.store.view().await?.verification(id(text, NOT_FOUND, "verification")?).await?;
    job.ok_or_else(|| Problem::not_found(NOT_FOUND, "verification", text))
}

fn location(id: Uuid) -> String {
    format!("/api/v1/verifications/{id}")
}

fn chain() -> VerificationScope {
    VerificationScope::Chain
}

fn view(job: Verification) -> VerificationView {
    let succeeded = job.state.status() == Status::Succeeded;
    let first_bad = job.first_bad();
    VerificationView {
        id: job.id.as_uuid(),
        backup_id: job.point.as_uuid(),
        scope: job.scope.into(),
        status: job.state.status().into(),
        progress_percent: percent(job.bytes_done, job.bytes_total, succeeded),
        bytes_total: bytes(job.bytes_total),
        bytes_done: bytes(job.bytes_done),
        good: succeeded.then_some(first_bad.is_none()),
        first_bad: first_bad.map(FirstBad::of),
        suspect: job.verdicts.iter().any(|it| it.suspect),
        points: job.verdicts.iter().map(VerdictView::of).collect(),
        error: job.state.fault().map(Fault::from),
        created_at: job.created_at,
        started_at: job.state.started_at(),
        finished_at: job.state.finished_at(),
    }
}

impl FirstBad {
    fn of(verdict: &PointVerdict) -> Self {
        let first = verdict.mismatches.first();
        let what = first.map(|it| it.what.clone()).or_else(|| verdict.damage.clone());
        Self {
            backup_id: verdict.point.as_uuid(),
            disk_id: verdict.ordinal,
            offset: first.map(|it| bytes(it.offset)),
            what: what.unwrap_or_else(|| format!("{} bad blocks", verdict.bad_blocks)),
        }
    }
}

impl VerdictView {
    fn of(verdict: &PointVerdict) -> Self {
        let mismatches = verdict.mismatches.iter().map(|it| MismatchView {
            offset: bytes(it.offset),
            len: bytes(it.len),
            what: it.what.clone(),
        });
        Self {
            backup_id: verdict.point.as_uuid(),
            disk_id: verdict.ordinal,
            blocks_checked: bytes(verdict.blocks_checked),
            bad_blocks: bytes(verdict.bad_blocks),
            mismatches: mismatches.collect(),
            damage: verdict.damage.clone(),
            suspect: verdict.suspect,
        }
    }
}
