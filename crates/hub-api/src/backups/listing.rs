//! Lists of backups, and sums over them.

use actix_web::web;
use hub_domain::backup::BackupJob;
use hub_domain::ids::RepositoryId;
use hub_domain::selector::DiskSelector;
use hub_domain::vm::VmAddress;
use hub_ports::Catalogue;
use hub_ports::store::BackupFilter;
use serde::Serialize;
use utoipa::ToSchema;

use super::addressing::{backed_up_vm, ordinal_of, selector};
use super::query::BackupQuery;
use super::view::BackupView;
use crate::answer::{Answer, State, bytes};
use crate::page::{After, Page};
use crate::problem::Problem;
use crate::waiting::Line;

/// Sums over all backups.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupStats)]
pub(crate) struct StatsView {
    /// All backup jobs.
    jobs: i64,
    /// Restore points.
    points: i64,
    /// Jobs that failed or were interrupted.
    failed: i64,
    /// Jobs still at work.
    active: i64,
    /// Bytes that the restore points take.
    stored_bytes: i64,
    /// Restore points that may lack changes, because the audit of their chain found that its source left some out.
    suspect: i64,
    /// Chains whose latest point stands in such a chain; each gets a full next.
    suspect_chains: i64,
}

/// Backups by id.
#[utoipa::path(get, path = "/api/v1/backups", tag = "backups", params(BackupQuery),
    responses((status = 200, body = Page<BackupView>)))]
pub(crate) async fn list(state: State, query: web::Query<BackupQuery>) -> Answer<Page<BackupView>> {
    let query = query.into_inner();
    let listed = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let filter = filter(view.as_mut(), &query).await?;
        let after = query.after.as_ref().map(After::id);
        let jobs = view.backups_page(&filter, after, query.limit.with_one_more()).await?;
        let line = Line::of(&hub);
        let item = |job: BackupJob| BackupView::of(&job, &line);
        Ok(Page::of(jobs, query.limit, |job| job.id.to_string(), item))
    });
    listed.await.map(web::Json)
}

/// Sums over all backups.
#[utoipa::path(get, path = "/api/v1/backups/stats", tag = "backups",
    responses((status = 200, body = StatsView)))]
pub(crate) async fn stats(state: State) -> Answer<StatsView> {
    let sums = state.ask(|hub| async move { Ok(hub.store.view().await?.backup_stats().await?) });
    let sums = sums.await?;
    Ok(web::Json(StatsView {
        jobs: bytes(sums.jobs),
        points: bytes(sums.points),
        failed: bytes(sums.failed),
        active: bytes(sums.active),
        stored_bytes: bytes(sums.stored_bytes),
        suspect: bytes(sums.suspect),
        suspect_chains: bytes(sums.suspect_chains),
    }))
}

async fn filter(
    catalogue: &mut dyn Catalogue,
    query: &BackupQuery,
) -> Result<BackupFilter, Problem> {
    let address = match (&query.vm_name, query.vm_context_id) {
        (Some(_), Some(_)) => {
            return Err(Problem::field("vm_context_id", "give either vm_name or vm_context_id"));
        }
        (Some(name), None) => Some(VmAddress::parse(name)),
        (None, Some(id)) => Some(VmAddress::parse(&id.to_string())),
        (None, None) => None,
    };
    let vm = match &address {
        Some(address) => Some(backed_up_vm(catalogue, address).await?),
        None => None,
    };
    let ordinal = match query.disk_id.as_deref().map(selector).transpose()? {
        None | Some(DiskSelector::All) => None,
        Some(DiskSelector::Ordinal(ordinal)) => Some(ordinal),
        Some(disk @ DiskSelector::Key(_)) => {
            let detail = "an id of the hypervisor needs vm_name or vm_context_id beside it";
            let vm = vm.ok_or_else(|| Problem::field("disk_id", detail))?;
            Some(ordinal_of(catalogue, vm, &disk).await?)
        }
    };
    let repository = query.repository_id.map(RepositoryId::from_uuid);
    let status = query.status.map(Into::into);
    Ok(BackupFilter { vm, ordinal, repository, status, run: None })
}
