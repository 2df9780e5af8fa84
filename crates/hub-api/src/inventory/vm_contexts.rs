//! VMs under management, with their disks.

use actix_web::web;
use hub_domain::vm::VmAddress;
use hub_ports::ErrorClass;
use hub_ports::store::{InventoryTotals, find_vm};
use serde::Serialize;
use utoipa::ToSchema;

use super::vm_query::VmQuery;
use super::vm_view::{Detail, DiskView, VmView, with_disks};
use crate::answer::{Answer, Response, State, bytes, gone};
use crate::page::{After, Page, UnreadableView, apart};
use crate::problem::Problem;
use crate::words::AddOutcome;

/// One page of VMs, and sums over all of them where they were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VmPage {
    items: Vec<VmView>,
    /// VMs that stand among them in the catalogue and cannot be read.
    unreadable: Vec<UnreadableView>,
    /// What to give as `after` for the page that follows; null on the last one.
    next: Option<String>,
    /// Over the whole inventory; only where asked for, since it costs a look at every disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
}

/// Sums over the whole inventory, for capacity planning.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Totals {
    vms: i64,
    /// Present ones.
    disks: i64,
    capacity_bytes: i64,
}

impl Totals {
    fn of(sums: InventoryTotals) -> Self {
        Self {
            vms: bytes(sums.vms),
            disks: bytes(sums.disks),
            capacity_bytes: bytes(sums.capacity_bytes),
        }
    }
}

/// The disks of a VM.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiskList {
    /// By ordinal, retired ones included.
    items: Vec<DiskView>,
    /// Disks of it that cannot be read; it cannot be backed up or replicated until they can.
    unreadable: Vec<UnreadableView>,
}

/// What a refresh did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refreshed {
    outcome: AddOutcome,
    vm: VmView,
}

/// VMs by id, with their disks, and the totals where they are asked for.
#[utoipa::path(get, path = "/api/v1/vm-contexts", tag = "vm-contexts", params(VmQuery),
    responses((status = 200, body = VmPage)))]
pub(crate) async fn list(state: State, query: web::Query<VmQuery>) -> Answer<VmPage> {
    let listed = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let after = query.after.as_ref().map(After::id);
        let vms = view.vms_page(after, query.limit.with_one_more()).await?;
        let Page { items, unreadable, next } =
            Page::of(vms, query.limit, |vm| vm.id.to_string(), |vm| vm);
        let items = with_disks(view.as_mut(), items, Detail::Listed).await?;
        let totals = match query.totals {
            true => Some(Totals::of(view.inventory_totals().await?)),
            false => None,
        };
        Ok(VmPage { items, unreadable, next, totals })
    });
    listed.await.map(web::Json)
}

/// One VM with its disks, by name or id.
#[utoipa::path(get, path = "/api/v1/vm-contexts/{vm}", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Its context_id, or its name where only one VM has it")),
    responses((status = 200, body = VmView)))]
pub(crate) async fn show(state: State, vm: web::Path<String>) -> Answer<VmView> {
    let found = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let vm = find_vm(view.as_mut(), &VmAddress::parse(&vm)).await?;
        only(with_disks(view.as_mut(), vec![vm], Detail::Full).await?)
    });
    found.await.map(web::Json)
}

/// The disks of a VM, by name or id.
#[utoipa::path(get, path = "/api/v1/vm-contexts/{vm}/disks", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Its context_id, or its name where only one VM has it")),
    responses((status = 200, body = DiskList)))]
pub(crate) async fn disks(state: State, vm: web::Path<String>) -> Answer<DiskList> {
    let found = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let vm = find_vm(view.as_mut(), &VmAddress::parse(&vm)).await?;
        let (disks, unreadable) = apart(view.disks_of_page(vm.id, vm.id).await?);
        let items = disks.into_iter().map(|it| DiskView::of(it, Detail::Listed));
        Ok(DiskList { items: items.collect(), unreadable })
    });
    found.await.map(web::Json)
}

/// Asks the VM's source again, and stores what has changed.
#[utoipa::path(post, path = "/api/v1/vm-contexts/{vm}/refresh", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Its context_id, or its name where only one VM has it")),
    responses((status = 200, body = Refreshed)))]
pub(crate) async fn refresh(state: State, vm: web::Path<String>) -> Answer<Refreshed> {
    let refreshed = state.carry_out(|hub| async move {
        let stored = hub.discovery.refresh(&VmAddress::parse(&vm)).await?;
        let mut view = hub.store.view().await?;
        let vm = find_vm(view.as_mut(), &VmAddress::Id(stored.id)).await?;
        let vm = only(with_disks(view.as_mut(), vec![vm], Detail::Full).await?)?;
        Ok(Refreshed { outcome: stored.change.into(), vm })
    });
    refreshed.await.map(web::Json)
}

/// Takes a VM out of management; its restore points stay.
#[utoipa::path(delete, path = "/api/v1/vm-contexts/{vm}", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Its context_id, or its name where only one VM has it")),
    responses((status = 204)))]
pub(crate) async fn remove(state: State, vm: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let mut work = hub.store.begin().await?;
        let vm = find_vm(work.as_mut(), &VmAddress::parse(&vm)).await?;
        work.lock_vm(vm.id).await?;
        let backups = work.unfinished_backups(Some(vm.id)).await?.len();
        let replications = work.unfinished_replications(Some(vm.id)).await?.len();
        if backups + replications > 0 {
            let detail = format!("jobs of VM {} are at work; cancel them first", vm.facts.name);
            return Err(Problem::new(ErrorClass::Conflict, "vm/active", detail));
        }
        work.delete_vm(vm.id).await?;
        Ok(work.commit().await?)
    });
    removed.await.map(|()| gone())
}

fn only(mut vms: Vec<VmView>) -> Result<VmView, Problem> {
    vms.pop().ok_or_else(|| Problem::internal("a VM was lost while its disks were read"))
}
