//! Replications: every disk of a VM, copied to a replica that stays current.

use std::collections::BTreeMap;

use actix_web::web;
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::replication::ReplicationJob;
use hub_domain::vm::VmAddress;
use hub_job_runner::JobKey;
use hub_ports::store::{find_vm, unless_unreadable};
use hub_ports::{Catalogue, StoreError};
use hub_replication::StartReplication;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::launch::{StoredCopy, ask_source, copy_needs, launch_copy, needs_now};
use super::replication_view::{ReplicationQuery, ReplicationView};
use crate::access::setting::{Whole, rate};
use crate::answer::{Answer, Response, State, accepted, gone, id};
use crate::events::follow;
use crate::inventory::vm_view::address;
use crate::page::{After, Page};
use crate::problem::Problem;
use crate::state::Hub;
use crate::waiting::Line;
use crate::words::{ReplicaFormat, ReplicationType};

/// What these jobs are called by the supervisor.
pub(crate) const KIND: &str = "replication";

const NOT_FOUND: &str = "replication/not-found";

/// Which VM to replicate, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReplication {
    /// The VM's name, or its context_id; either this or `vm_context_id`.
    vm_name: Option<String>,
    /// The VM's context_id.
    vm_context_id: Option<String>,
    #[serde(default = "initial")]
    #[schema(default = "initial")]
    replication_type: ReplicationType,
    #[serde(default = "raw")]
    #[schema(default = "raw")]
    format: ReplicaFormat,
    /// What it may send at most; without, as much as its VMA may.
    #[schema(value_type = Option<u64>, minimum = 65536)]
    max_bytes_per_second: Option<Whole>,
    /// Whether the guest's file systems are quiesced for the snapshot, where the source takes one; without, as the VMA
    /// is set up. A guest that does not come to rest is copied as it is, and the replication says so.
    quiesce: Option<bool>,
}

/// Replicates a VM; the same request while it runs answers that job.
#[utoipa::path(post, path = "/api/v1/replications", tag = "replications",
    request_body = NewReplication, responses((status = 202, body = ReplicationView)))]
pub(crate) async fn start(state: State, new: web::Json<NewReplication>) -> Response {
    let request = StartReplication {
        vm: address(new.vm_name.as_deref(), new.vm_context_id.as_deref())?,
        kind: new.replication_type.into(),
        format: new.format.into(),
        rate: rate(new.max_bytes_per_second)?,
        quiesce: new.quiesce,
    };
    let started = state.carry_out(|hub| async move {
        let asked_at = ask_source(&hub, &request.vm).await?;
        let job = hub.replication.start(&request).await?.job;
        let copy = StoredCopy::Replication(job.id);
        let needs = copy_needs(&hub, copy, job.vm, None).await?;
        launch_copy(&hub, copy, job.vm, needs, asked_at)?;
        named(&hub, hub.store.view().await?.as_mut(), &job).await
    });
    started.await.map(|job| accepted(&location(job.id), &job))
}

/// Lets a stored job join the line; a hub that is being stopped leaves it to the next one.
pub(crate) async fn take_up(hub: &Hub, id: ReplicationJobId) -> Result<(), StoreError> {
    let mut view = hub.store.view().await?;
    let Some(job) = view.replication(id).await? else { return Ok(()) };
    drop(view);
    let copy = StoredCopy::Replication(id);
    let needs = needs_now(hub, copy, job.vm, None).await?;
    if launch_copy(hub, copy, job.vm, needs, None).is_err() {
        tracing::info!(job.id = %id, "a replication waits for the next start of the hub");
    }
    Ok(())
}

/// Replications by id.
#[utoipa::path(get, path = "/api/v1/replications", tag = "replications",
    params(ReplicationQuery), responses((status = 200, body = Page<ReplicationView>)))]
pub(crate) async fn list(
    state: State,
    query: web::Query<ReplicationQuery>,
) -> Answer<Page<ReplicationView>> {
    let query = query.into_inner();
    let listed = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let vm = match &query.vm_name {
            Some(name) => Some(find_vm(view.as_mut(), &VmAddress::parse(name)).await?.id),
            None => None,
        };
        let after = query.after.as_ref().map(After::id);
        let jobs = view.replications_page(vm, after, query.limit.with_one_more()).await?;
        let mut names = BTreeMap::new();
        for job in jobs.iter().flatten() {
            if let std::collections::btree_map::Entry::Vacant(entry) = names.entry(job.vm) {
                entry.insert(vm_name(view.as_mut(), job.vm).await?);
            }
        }
        let line = Line::of(&hub);
        let item = |job: ReplicationJob| {
            let name = names.get(&job.vm).cloned().unwrap_or_default();
            ReplicationView::of(&job, name, &line)
        };
        Ok(Page::of(jobs, query.limit, |job| job.id.to_string(), item))
    });
    listed.await.map(web::Json)
}

/// One replication.
#[utoipa::path(get, path = "/api/v1/replications/{id}", tag = "replications",
    params(("id" = Uuid, Path)), responses((status = 200, body = ReplicationView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<ReplicationView> {
    state.ask(|hub| async move { find(&hub, &of).await }).await.map(web::Json)
}

/// Asks a replication to stop.
#[utoipa::path(post, path = "/api/v1/replications/{id}/cancel", tag = "replications",
    params(("id" = Uuid, Path)), responses((status = 202, body = ReplicationView)))]
pub(crate) async fn cancel(state: State, of: web::Path<String>) -> Response {
    let cancelled = state.carry_out(|hub| async move {
        let job: ReplicationJobId = id(&of, NOT_FOUND, "replication")?;
        hub.replication.cancel(job).await?;
        hub.supervisor.cancel(&JobKey::new(KIND, job));
        find(&hub, &of).await
    });
    cancelled.await.map(|job| accepted(&location(job.id), &job))
}

/// Removes a replication that has ended; the disks linked to it stay, with no job again.
#[utoipa::path(delete, path = "/api/v1/replications/{id}", tag = "replications",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn remove(state: State, of: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let job: ReplicationJobId = id(&of, NOT_FOUND, "replication")?;
        Ok(hub.replication.delete(job).await?)
    });
    removed.await.map(|()| gone())
}

/// The replication as server-sent events, until it has ended.
#[utoipa::path(get, path = "/api/v1/replications/{id}/events", tag = "replications",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = String, content_type = "text/event-stream",
        description = "Events named `replication`; the data is the replication")))]
pub(crate) async fn events(state: State, of: web::Path<String>) -> Response {
    let of = of.into_inner();
    follow(state, "replication", move |hub| {
        let of = of.clone();
        async move { find(&hub, &of).await }
    })
    .await
}

async fn find(hub: &Hub, text: &str) -> Result<ReplicationView, Problem> {
    let mut view = hub.store.view().await?;
    let job = view.replication(id(text, NOT_FOUND, "replication")?).await?;
    let job = job.ok_or_else(|| Problem::not_found(NOT_FOUND, "replication", text))?;
    named(hub, view.as_mut(), &job).await
}

async fn named(
    hub: &Hub,
    catalogue: &mut dyn Catalogue,
    job: &ReplicationJob,
) -> Result<ReplicationView, Problem> {
    Ok(ReplicationView::of(job, vm_name(catalogue, job.vm).await?, &Line::of(hub)))
}

/// A replication goes with its VM, so the name is there unless both have just gone.
async fn vm_name(catalogue: &mut dyn Catalogue, vm: VmContextId) -> Result<String, Problem> {
    let untold = "a replication is listed without the name of its VM, which cannot be read";
    let vm = unless_unreadable(catalogue.vm(vm).await, untold)?.flatten();
    Ok(vm.map(|it| it.facts.name).unwrap_or_default())
}

fn location(id: Uuid) -> String {
    format!("/api/v1/replications/{id}")
}

fn initial() -> ReplicationType {
    ReplicationType::Initial
}

fn raw() -> ReplicaFormat {
    ReplicaFormat::Raw
}
