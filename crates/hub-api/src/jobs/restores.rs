//! Restores of a disk to a file on the hub.

use std::path::Path;

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::ids::{BackupJobId, RestoreJobId};
use hub_domain::job::JobStatus as Status;
use hub_domain::restore::RestoreJob;
use hub_job_runner::JobKey;
use hub_restore::RestoreRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::launch::launch;
use crate::answer::{Answer, Response, State, accepted, bytes, id, percent};
use crate::page::{After, Page, PageQuery};
use crate::problem::Problem;
use crate::state::Hub;
use crate::words::{Fault, JobStatus, RestoreFormat};

/// What these jobs are called by the supervisor.
pub(crate) const KIND: &str = "restore";

const NOT_FOUND: &str = "restore/not-found";

/// Which point to restore, and to what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRestore {
    backup_id: String,
    format: RestoreFormat,
    /// A plain file name that does not exist yet; `<backup_id>.<format>` unless given.
    file_name: Option<String>,
}

/// A restore.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Restore)]
pub(crate) struct RestoreView {
    id: Uuid,
    backup_id: Uuid,
    format: RestoreFormat,
    file_name: String,
    /// Absolute, on the hub; null until it has succeeded.
    path: Option<String>,
    status: JobStatus,
    progress_percent: u8,
    bytes_total: i64,
    bytes_done: i64,
    error: Option<Fault>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Restores a point to a file; the same request while one runs answers that one.
#[utoipa::path(post, path = "/api/v1/restores", tag = "restores", request_body = NewRestore,
    responses((status = 202, body = RestoreView)))]
pub(crate) async fn start(state: State, new: web::Json<NewRestore>) -> Response {
    let new = new.into_inner();
    let point: BackupJobId = id(&new.backup_id, "backup/not-found", "backup")?;
    let request = RestoreRequest { point, format: new.format.into(), file_name: new.file_name };
    let started = state.carry_out(|hub| async move {
        let (job, _) = hub.restore.start_restore(&request).await?;
        run(&hub, job.id)?;
        Ok(view(job, &hub.facts.restore_dir))
    });
    started.await.map(|job| accepted(&location(job.id), &job))
}

/// Runs a stored job; a hub that is being stopped leaves it to the next one, which ends it.
pub(crate) fn take_up(hub: &Hub, id: RestoreJobId) {
    if run(hub, id).is_err() {
        tracing::info!(job.id = %id, "a restore waits for the next start of the hub");
    }
}

fn run(hub: &Hub, id: RestoreJobId) -> Result<(), Problem> {
    let engine = hub.restore.clone();
    let work = move |cancel| async move { engine.run_restore(id, cancel).await };
    launch(&hub.supervisor, KIND, id, work)
}

/// Restores by id.
#[utoipa::path(get, path = "/api/v1/restores", tag = "restores", params(PageQuery),
    responses((status = 200, body = Page<RestoreView>)))]
pub(crate) async fn list(state: State, query: web::Query<PageQuery>) -> Answer<Page<RestoreView>> {
    let listed = state.ask(|hub| async move {
        let after = query.after.as_ref().map(After::id);
        let mut catalogue = hub.store.view().await?;
        let jobs = catalogue.restores_page(after, query.limit.with_one_more()).await?;
        let directory = &hub.facts.restore_dir;
        Ok(Page::of(jobs, query.limit, |job| job.id.to_string(), |job| view(job, directory)))
    });
    listed.await.map(web::Json)
}

/// One restore.
#[utoipa::path(get, path = "/api/v1/restores/{id}", tag = "restores",
    params(("id" = Uuid, Path)), responses((status = 200, body = RestoreView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<RestoreView> {
    let found = state.ask(|hub| async move {
        let job = find(&hub, &of).await?;
        Ok(view(job, &hub.facts.restore_dir))
    });
    found.await.map(web::Json)
}

/// Asks a restore to stop; what it has written goes.
#[utoipa::path(post, path = "/api/v1/restores/{id}/cancel", tag = "restores",
    params(("id" = Uuid, Path)), responses((status = 202, body = RestoreView)))]
pub(crate) async fn cancel(state: State, of: web::Path<String>) -> Response {
    let cancelled = state.carry_out(|hub| async move {
        let job = find(&hub, &of).await?;
        let job = hub.restore.cancel_restore(job.id).await?;
        hub.supervisor.cancel(&JobKey::new(KIND, job.id));
        Ok(view(job, &hub.facts.restore_dir))
    });
    cancelled.await.map(|job| accepted(&location(job.id), &job))
}

async fn find(hub: &Hub, text: &str) -> Result<RestoreJob, Problem> {
    let job = hub.store.view().await?.restore(id(text, NOT_FOUND, "restore")?).await?;
    job.ok_or_else(|| Problem::not_found(NOT_FOUND, "restore", text))
}

fn location(id: Uuid) -> String {
    format!("/api/v1/restores/{id}")
}

fn view(job: RestoreJob, directory: &Path) -> RestoreView {
    let succeeded = job.state.status() == Status::Succeeded;
    let path = directory.join(&job.file_name);
    RestoreView {
        id: job.id.as_uuid(),
        backup_id: job.point.as_uuid(),
        format: job.format.into(),
        path: succeeded.then(|| path.display().to_string()),
        status: job.state.status().into(),
        progress_percent: percent(job.bytes_done, job.bytes_total, succeeded),
        bytes_total: bytes(job.bytes_total),
        bytes_done: bytes(job.bytes_done),
        error: job.state.fault().map(Fault::from),
        created_at: job.created_at,
        started_at: job.state.started_at(),
        finished_at: job.state.finished_at(),
        file_name: job.file_name,
    }
}
