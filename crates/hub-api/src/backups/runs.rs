//! Backup runs: one VM at one instant, started, shown, followed and stopped.

use actix_web::web;
use hub_backup::StartBackup;
use hub_domain::ids::{BackupRunId, PolicyId};
use hub_domain::selector::DiskSelector;
use hub_domain::text;
use hub_job_runner::JobKey;
use hub_ports::StoreError;
use hub_ports::store::all_readable;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::addressing::DiskId;
use super::view::RunView;
use crate::access::setting::{Whole, audit_runs, rate};
use crate::answer::{Answer, Response, State, accepted, id};
use crate::events::follow;
use crate::inventory::vm_view::address;
use crate::jobs::launch::{StoredCopy, ask_source, copy_needs, launch_copy, needs_now};
use crate::problem::Problem;
use crate::state::Hub;
use crate::waiting::Line;
use crate::words::BackupType;

/// What these jobs are called by the supervisor.
pub(crate) const KIND: &str = "backup";

const NOT_FOUND: &str = "backup/run-not-found";

/// Most tags of a run, and most characters of one.
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 64;

/// What to back up, and where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBackup {
    /// The VM's name, or its context_id; either this or `vm_context_id`.
    vm_name: Option<String>,
    /// The VM's context_id.
    vm_context_id: Option<String>,
    /// One disk, by ordinal (`0`) or by the hypervisor's id (`disk-2000`); all disks unless given.
    disk_id: Option<DiskId>,
    backup_type: BackupType,
    repository_id: String,
    /// An id of your own planning: kept, answered and nothing more. There are no policies here yet, so it is looked up
    /// nowhere and decides nothing.
    policy_id: Option<Uuid>,
    /// Words of your own.
    #[serde(default)]
    tags: Vec<String>,
    /// What it may send at most; without, as much as its VMA may.
    #[schema(value_type = Option<u64>, minimum = 65536)]
    max_bytes_per_second: Option<Whole>,
    /// Within how many incrementals by changed areas every block that was reported unchanged is read once; without, as
    /// the hub is set. No more than 63 take effect: a chain has no more incrementals, and none ends by its length before
    /// the audit has gone around.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    audit_runs: Option<Whole>,
    /// Whether the guest's file systems are quiesced for the snapshot, where the source takes one; without, as the VMA
    /// is set up. A guest that does not come to rest is backed up as it is, and its backups say so.
    quiesce: Option<bool>,
}

/// Backs up a VM: all asked disks at one instant; the same request while it runs answers that run.
#[utoipa::path(post, path = "/api/v1/backups", tag = "backups", request_body = NewBackup,
    responses((status = 202, body = RunView)))]
pub(crate) async fn start(state: State, new: web::Json<NewBackup>) -> Response {
    let request = request(new.into_inner())?;
    let started = state.carry_out(|hub| async move {
        let asked_at = ask_source(&hub, &request.vm).await?;
        let started = hub.backup.start(&request).await?;
        let copy = StoredCopy::Backup(started.run.id);
        let (vm, to) = (started.run.vm, Some(started.run.repository));
        let needs = copy_needs(&hub, copy, vm, to).await?;
        launch_copy(&hub, copy, vm, needs, asked_at)?;
        Ok(RunView::of(started.run, &started.jobs, &Line::of(&hub)))
    });
    started.await.map(|run| accepted(&location(run.run_id), &run))
}

/// Lets a stored run join the line; a hub that is being stopped leaves it to the next one.
pub(crate) async fn take_up(hub: &Hub, id: BackupRunId) -> Result<(), StoreError> {
    let mut view = hub.store.view().await?;
    let Some(run) = view.backup_run(id).await? else { return Ok(()) };
    drop(view);
    let copy = StoredCopy::Backup(id);
    let needs = needs_now(hub, copy, run.vm, Some(run.repository)).await?;
    if launch_copy(hub, copy, run.vm, needs, None).is_err() {
        tracing::info!(run.id = %id, "a backup run waits for the next start of the hub");
    }
    Ok(())
}

/// One run with its backups.
#[utoipa::path(get, path = "/api/v1/backup-runs/{id}", tag = "backups",
    params(("id" = Uuid, Path)), responses((status = 200, body = RunView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<RunView> {
    state.ask(|hub| async move { find(&hub, &of).await }).await.map(web::Json)
}

/// Asks a run to stop; what its backups have written goes.
#[utoipa::path(post, path = "/api/v1/backup-runs/{id}/cancel", tag = "backups",
    params(("id" = Uuid, Path)), responses((status = 202, body = RunView)))]
pub(crate) async fn cancel(state: State, of: web::Path<String>) -> Response {
    let cancelled = state.carry_out(|hub| async move {
        let run: BackupRunId = id(&of, NOT_FOUND, "backup run")?;
        hub.backup.cancel(run).await?;
        hub.supervisor.cancel(&JobKey::new(KIND, run));
        find(&hub, &of).await
    });
    cancelled.await.map(|run| accepted(&location(run.run_id), &run))
}

/// The run as server-sent events, until it has ended.
#[utoipa::path(get, path = "/api/v1/backup-runs/{id}/events", tag = "backups",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = String, content_type = "text/event-stream",
        description = "Events named `backup-run`; the data is the run")))]
pub(crate) async fn events(state: State, of: web::Path<String>) -> Response {
    let of = of.into_inner();
    follow(state, "backup-run", move |hub| {
        let of = of.clone();
        async move { find(&hub, &of).await }
    })
    .await
}

async fn find(hub: &Hub, text: &str) -> Result<RunView, Problem> {
    let run: BackupRunId = id(text, NOT_FOUND, "backup run")?;
    let mut view = hub.store.view().await?;
    let found = view.backup_run(run).await?;
    let found = found.ok_or_else(|| Problem::not_found(NOT_FOUND, "backup run", text))?;
    let jobs = all_readable(view.backups_of_run(run).await?)?;
    Ok(RunView::of(found, &jobs, &Line::of(hub)))
}

fn location(id: Uuid) -> String {
    format!("/api/v1/backup-runs/{id}")
}

fn request(new: NewBackup) -> Result<StartBackup, Problem> {
    if new.tags.len() > MAX_TAGS {
        return Err(Problem::field("/tags", format!("there are at most {MAX_TAGS}")));
    }
    let tag = |tag: &String| {
        text::required("a tag", tag, MAX_TAG).map_err(|error| Problem::field("/tags", error))
    };
    Ok(StartBackup {
        vm: address(new.vm_name.as_deref(), new.vm_context_id.as_deref())?,
        disks: new.disk_id.as_ref().map_or(Ok(DiskSelector::All), DiskId::selector)?,
        backup_type: new.backup_type.into(),
        repository: id(&new.repository_id, "repository/not-found", "repository")?,
        policy: new.policy_id.map(PolicyId::from_uuid),
        rate: rate(new.max_bytes_per_second)?,
        audit_runs: audit_runs(new.audit_runs)?,
        quiesce: new.quiesce,
        tags: new.tags.iter().map(tag).collect::<Result<_, _>>()?,
    })
}
