//! What speaks against a backup of a VM, by what its source said last.

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::preflight::{About, Concern, Preflight};
use hub_domain::vm::VmAddress;
use hub_ports::store::find_vm;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, State};
use crate::words::{ConcernEffect, ConcernSeverity};

/// What speaks against a backup of a VM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preflight)]
pub(crate) struct PreflightView {
    vm_context_id: Uuid,
    vm_name: String,
    /// Since when the source has said nothing else: what is judged here is of that time. A refresh of the VM asks anew;
    /// null for a VM that was not asked about since the hub keeps this.
    facts_at: Option<DateTime<Utc>>,
    /// Whether at least one disk can be copied.
    can_be_copied: bool,
    /// The VM's first, then by disk.
    concerns: Vec<ConcernView>,
}

/// Something that speaks against a backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Concern)]
pub(crate) struct ConcernView {
    /// Stable; its page is at `/problems/<code>`.
    code: String,
    severity: ConcernSeverity,
    /// What it makes of a run: nothing is copied, everything is read, or nothing but this warning.
    effect: ConcernEffect,
    /// The hypervisor's id of the disk; null where the whole VM is meant.
    disk_id: Option<String>,
    /// What was found.
    detail: String,
    /// What to do about it.
    remedy: String,
}

impl ConcernView {
    pub(super) fn of(concern: Concern) -> Self {
        let disk_id = match &concern.about {
            About::Vm => None,
            About::Disk(key) => Some(key.to_string()),
        };
        Self {
            code: concern.code().to_owned(),
            severity: concern.kind.severity().into(),
            effect: concern.effect().into(),
            disk_id,
            detail: concern.detail,
            remedy: concern.kind.remedy().to_owned(),
        }
    }
}

/// What speaks against a backup of a VM, by name or id.
#[utoipa::path(get, path = "/api/v1/vm-contexts/{vm}/preflight", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Its context_id, or its name where only one VM has it")),
    responses((status = 200, body = PreflightView)))]
pub(crate) async fn show(state: State, vm: web::Path<String>) -> Answer<PreflightView> {
    let found = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let vm = find_vm(view.as_mut(), &VmAddress::parse(&vm)).await?;
        let disks = view.disks_of(&[vm.id]).await?;
        let present = || disks.iter().filter(|disk| disk.is_present()).map(|disk| &disk.facts);
        let found = Preflight::of(&vm.facts, present());
        let can_be_copied = found.vm_blocked().is_none()
            && present().any(|disk| found.disk_blocked(&disk.key).is_none());
        Ok(PreflightView {
            vm_context_id: vm.id.as_uuid(),
            vm_name: vm.facts.name,
            facts_at: vm.facts_at,
            can_be_copied,
            concerns: found.concerns.into_iter().map(ConcernView::of).collect(),
        })
    });
    found.await.map(web::Json)
}
