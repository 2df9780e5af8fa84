//! Chains: from a full to the newest point that stands on it, per disk and repository.

use actix_web::web;
use hub_domain::chain::{ChainKey, chain_to, suspicion_of};
use hub_domain::ids::RepositoryId;
use hub_ports::ErrorClass;
use hub_ports::store::BackupFilter;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::addressing::{backed_up_vm, ordinal_of, selector};
use super::audit::SuspicionView;
use super::points::find;
use super::query::ChainQuery;
use super::view::BackupView;
use crate::answer::{Answer, State, bytes};
use crate::inventory::vm_view::address;
use crate::page::{UnreadableView, apart};
use crate::problem::Problem;

/// The chains of a disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiskChains {
    vm_context_id: Uuid,
    /// The disk's ordinal.
    disk_id: u32,
    /// One per repository.
    chains: Vec<ChainView>,
    /// What of the chains cannot be read; a chain that would not be whole without it is not among them.
    unreadable: Vec<UnreadableView>,
}

/// The chain of a disk in one repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupChain)]
pub(crate) struct ChainView {
    repository_id: Uuid,
    full_backup_id: Uuid,
    latest_backup_id: Uuid,
    /// Points from the full to the latest.
    count: u32,
    /// Bytes they take in the repository.
    stored_bytes: i64,
    /// Why changes may be missing in it: its source was caught leaving one out. The next backup is a full then.
    suspicion: Option<SuspicionView>,
    /// From the full to the latest.
    points: Vec<BackupView>,
}

/// What a point stands on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointChain {
    /// Why changes may be missing in some of them; each says itself whether it is suspect.
    suspicion: Option<SuspicionView>,
    /// From the full to the point asked for.
    points: Vec<BackupView>,
}

/// The chains of one disk, one per repository.
#[utoipa::path(get, path = "/api/v1/backup/chain", tag = "backups", params(ChainQuery),
    responses((status = 200, body = DiskChains)))]
pub(crate) async fn of_disk(state: State, query: web::Query<ChainQuery>) -> Answer<DiskChains> {
    let asked = address(query.vm_name.as_deref(), query.vm_context_id.as_deref())?;
    let disk = selector(query.disk_id.as_deref().unwrap_or("0"))?;
    let repository = query.repository_id.map(RepositoryId::from_uuid);
    let found = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let vm = backed_up_vm(view.as_mut(), &asked).await?;
        let ordinal = ordinal_of(view.as_mut(), vm, &disk).await?;
        let mut chains = Vec::new();
        let (found, mut unreadable) = apart(view.chains_of_vm(vm).await?);
        for chain in found {
            let of_disk = chain.key.ordinal == ordinal;
            if !of_disk || repository.is_some_and(|only| only != chain.key.repository) {
                continue;
            }
            let (jobs, garbled) =
                apart(view.backups_page(&of_chain(chain.key), None, u32::MAX).await?);
            unreadable.extend(garbled);
            // The row and the points are read one after the other; what is deleted in between is left out.
            let Some(points) = chain_to(&jobs, chain.latest) else { continue };
            chains.push(ChainView {
                repository_id: chain.key.repository.as_uuid(),
                full_backup_id: chain.full.as_uuid(),
                latest_backup_id: chain.latest.as_uuid(),
                count: chain.count,
                stored_bytes: bytes(chain.stored_bytes),
                suspicion: suspicion_of(&points).map(SuspicionView::of),
                points: points.into_iter().map(BackupView::of_point).collect(),
            });
        }
        Ok(DiskChains { vm_context_id: vm.as_uuid(), disk_id: ordinal, chains, unreadable })
    });
    found.await.map(web::Json)
}

/// The backups of a chain, whatever their status.
fn of_chain(key: ChainKey) -> BackupFilter {
    BackupFilter {
        vm: Some(key.vm),
        ordinal: Some(key.ordinal),
        repository: Some(key.repository),
        ..BackupFilter::default()
    }
}

/// The points that a backup stands on, from the full to itself.
#[utoipa::path(get, path = "/api/v1/backups/{id}/chain", tag = "backups",
    params(("id" = Uuid, Path)), responses((status = 200, body = PointChain)))]
pub(crate) async fn of_point(state: State, of: web::Path<String>) -> Answer<PointChain> {
    let found = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let point = find(view.as_mut(), &of).await?;
        if !point.is_restore_point() {
            let status = point.state.status().word();
            let detail =
                format!("backup {} is {status}; only a completed one has a chain", point.id);
            return Err(Problem::new(ErrorClass::Conflict, "backup/not-completed", detail));
        }
        let key = ChainKey { vm: point.vm, ordinal: point.ordinal, repository: point.repository };
        let jobs = view.backups_of_chain(key).await?;
        let points = chain_to(&jobs, point.id).ok_or_else(|| {
            let detail = format!("the chain of backup {} is incomplete in the catalogue", point.id);
            Problem::new(ErrorClass::Conflict, "backup/chain-incomplete", detail)
        })?;
        Ok(PointChain {
            suspicion: suspicion_of(&points).map(SuspicionView::of),
            points: points.into_iter().map(BackupView::of_point).collect(),
        })
    });
    found.await.map(web::Json)
}
