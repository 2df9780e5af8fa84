//! Asking sources what they have, and putting VMs under management.

use actix_web::web;
use hub_discovery::{AddResult, AddVms, Change, DiscoverQuery, SourceChoice, Wanted};
use hub_domain::ids::{CredentialId, VmaNodeId};
use hub_domain::inventory::{RejectedVm, SeenVm};
use hub_domain::preflight::Preflight;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::conditions_view::{DiskConditionsView, NetworkView, VmConditionsView};
use super::preflight::ConcernView;
use crate::answer::{Answer, State, bytes};
use crate::page::UnreadableView;
use crate::problem::Problem;
use crate::words::{AddOutcome, Fault};

/// Which source to ask.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiscoverRequest {
    /// May be left out while exactly one VMA is registered.
    vma_node_id: Option<Uuid>,
    /// For a vSphere source.
    credential_id: Option<Uuid>,
    /// Only VMs with these names.
    #[serde(default)]
    names: Vec<String>,
}

/// Which VMs to put under management.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    /// May be left out while exactly one VMA is registered.
    vma_node_id: Option<Uuid>,
    /// For a vSphere source.
    credential_id: Option<Uuid>,
    /// Display names.
    #[serde(default)]
    vm_names: Vec<String>,
    /// The source's own ids; one also picks among several VMs with an asked name.
    #[serde(default)]
    vm_ids: Vec<String>,
    /// Every VM of the source.
    #[serde(default)]
    all: bool,
}

/// What a source has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscoveredInventory {
    vcenter: Vcenter,
    vms: Vec<DiscoveredVm>,
    /// What cannot be managed, and why.
    rejected: Vec<Rejected>,
    /// VM contexts that may be some of these and cannot be read; `managed` is false of those.
    unreadable: Vec<UnreadableView>,
}

/// Names a source.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Vcenter {
    host: String,
    datacenter: String,
    /// Its own id, which stays when its host name changes; null where it has none.
    instance_uuid: Option<String>,
}

/// One VM of a source.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscoveredVm {
    /// The source's own id.
    id: String,
    name: String,
    path: String,
    power_state: Option<String>,
    guest_os: Option<String>,
    num_cpu: Option<u32>,
    memory_mb: Option<u32>,
    vmx_version: Option<String>,
    /// Its own id in its vCenter, which it keeps; null where the source has none.
    instance_uuid: Option<String>,
    /// Reference of the managed object.
    moref: Option<String>,
    datacenter: String,
    disks: Vec<DiscoveredDisk>,
    networks: Vec<NetworkView>,
    conditions: VmConditionsView,
    /// What speaks against a backup of it.
    concerns: Vec<ConcernView>,
    /// Whether it is under management.
    managed: bool,
    /// The VM context, where it is managed.
    context_id: Option<Uuid>,
}

/// One disk of a source's VM.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscoveredDisk {
    /// The hypervisor's own id.
    id: String,
    label: String,
    path: String,
    /// In GiB, rounded: for people.
    size_gb: i64,
    /// Exact.
    capacity_bytes: i64,
    datastore: String,
    provisioning_type: Option<String>,
    /// What it hangs on, as in `scsi0`.
    bus: Option<String>,
    unit_number: Option<u32>,
    /// Id of the disk behind the device, by which it is known.
    backing_uuid: Option<String>,
    conditions: DiskConditionsView,
}

/// Something that cannot be managed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rejected {
    /// Its name, or where it was found.
    subject: String,
    /// Why, and what to do.
    detail: String,
}

/// How adding went; every name asked for stands in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedVms {
    results: Vec<AddedVm>,
    added: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
}

/// How adding went for one VM.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AddedVm {
    vm_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vmware_vm_id: Option<String>,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<AddOutcome>,
    /// Its present disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    disks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
}

/// Lists a source's VMs with their disks, marking those under management; stores nothing.
#[utoipa::path(post, path = "/api/v1/discovery/discover-vms", tag = "discovery",
    request_body = DiscoverRequest, responses((status = 200, body = DiscoveredInventory)))]
pub(crate) async fn discover(
    state: State,
    request: web::Json<DiscoverRequest>,
) -> Answer<DiscoveredInventory> {
    let request = request.into_inner();
    let query = DiscoverQuery {
        source: choice(request.vma_node_id, request.credential_id),
        names: request.names,
    };
    let found = state.ask(|hub| async move {
        let found = hub.discovery.discover(&query).await?;
        let managed = found.managed;
        let vms = found.inventory.vms.into_iter().map(|vm| {
            let context = managed.get(&vm.facts.vmware_vm_id).map(|id| id.as_uuid());
            DiscoveredVm::of(vm, context)
        });
        Ok(DiscoveredInventory {
            vms: vms.collect(),
            vcenter: Vcenter {
                host: found.inventory.vcenter_host,
                instance_uuid: found.inventory.vcenter_uuid,
                datacenter: found.inventory.datacenter,
            },
            rejected: found.inventory.rejected.into_iter().map(Rejected::of).collect(),
            unreadable: found.unreadable.into_iter().map(UnreadableView::from).collect(),
        })
    });
    found.await.map(web::Json)
}

/// Puts VMs under management with their disks, or brings those that are up to date; answers for every VM asked for.
#[utoipa::path(post, path = "/api/v1/discovery/add-vms", tag = "discovery",
    request_body = AddRequest, responses((status = 200, body = AddedVms)))]
pub(crate) async fn add(state: State, request: web::Json<AddRequest>) -> Answer<AddedVms> {
    let request = request.into_inner();
    let names_any = !request.vm_names.is_empty() || !request.vm_ids.is_empty();
    if request.all && names_any {
        return Err(Problem::field("/all", "give either names and ids, or all"));
    }
    let add = AddVms {
        source: choice(request.vma_node_id, request.credential_id),
        wanted: if request.all {
            Wanted::All
        } else {
            Wanted::These { names: request.vm_names, ids: request.vm_ids }
        },
    };
    let added = state.carry_out(|hub| async move {
        let report = hub.discovery.add_vms(&add).await?;
        Ok(AddedVms {
            added: report.count(Change::Added),
            updated: report.count(Change::Updated),
            unchanged: report.count(Change::Unchanged),
            failed: report.failed(),
            results: report.results.into_iter().map(AddedVm::of).collect(),
        })
    });
    added.await.map(web::Json)
}

fn choice(vma_node: Option<Uuid>, credential: Option<Uuid>) -> SourceChoice {
    SourceChoice {
        vma_node: vma_node.map(VmaNodeId::from_uuid),
        credential: credential.map(CredentialId::from_uuid),
    }
}

impl DiscoveredVm {
    fn of(vm: SeenVm, context_id: Option<Uuid>) -> Self {
        let concerns = Preflight::of(&vm.facts, &vm.disks).concerns;
        let disks = vm.disks.into_iter().map(|disk| DiscoveredDisk {
            size_gb: bytes(disk.size_gb()),
            capacity_bytes: bytes(disk.capacity.bytes()),
            conditions: DiskConditionsView::of(&disk),
            id: disk.key.to_string(),
            label: disk.label,
            path: disk.vmdk_path,
            datastore: disk.datastore,
            provisioning_type: disk.provisioning_type,
            bus: disk.bus,
            unit_number: disk.unit_number,
            backing_uuid: disk.backing_uuid,
        });
        let (conditions, networks) = VmConditionsView::of(vm.facts.conditions);
        Self {
            id: vm.facts.vmware_vm_id,
            instance_uuid: vm.facts.instance_uuid,
            moref: vm.facts.moref,
            datacenter: vm.facts.datacenter,
            concerns: concerns.into_iter().map(ConcernView::of).collect(),
            name: vm.facts.name,
            path: vm.facts.path,
            power_state: vm.facts.power_state,
            guest_os: vm.facts.os_type,
            num_cpu: vm.facts.cpu_count,
            memory_mb: vm.facts.memory_mb,
            vmx_version: vm.vmx_version,
            disks: disks.collect(),
            networks,
            conditions,
            managed: context_id.is_some(),
            context_id,
        }
    }
}

impl Rejected {
    fn of(rejected: RejectedVm) -> Self {
        Self { subject: rejected.subject, detail: rejected.detail }
    }
}

impl AddedVm {
    fn of(result: AddResult) -> Self {
        let stored = result.outcome.as_ref().ok();
        Self {
            vm_name: result.vm_name,
            vmware_vm_id: result.vmware_vm_id,
            success: stored.is_some(),
            context_id: stored.map(|it| it.id.as_uuid()),
            outcome: stored.map(|it| it.change.into()),
            disks: stored.map(|it| it.disks),
            error: result
                .outcome
                .err()
                .map(|fault| Fault { code: fault.code.to_owned(), detail: fault.detail }),
        }
    }
}
