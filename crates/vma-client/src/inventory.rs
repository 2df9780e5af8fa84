//! Inventories from the wire: each VM is checked by itself, and a bad one is named instead of hiding the others.

use std::collections::{BTreeMap, BTreeSet};

use hub_domain::access::Credential;
use hub_domain::capacity::Capacity;
use hub_domain::disk::{DiskFacts, DiskKey};
use hub_domain::identity::VmKey;
use hub_domain::inventory::{RejectedVm, SeenInventory, SeenVm};
use hub_domain::text::{self, MAX_KEY, MAX_PATH, MAX_TEXT};
use hub_domain::vm::VmFacts;
use hub_ports::InventoryQuery;
use hub_vma_api as wire;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;

use crate::conditions;
use crate::transport::{json_error, shortened};

/// Longest subject and detail of a rejection, in characters.
const MAX_SUBJECT: usize = 300;

/// A query as it travels.
pub(crate) fn query_to_wire(query: &InventoryQuery) -> wire::DiscoverRequest {
    let filter = wire::DiscoverFilter { names: query.names.clone(), ids: query.ids.clone() };
    let is_narrow = !filter.names.is_empty() || !filter.ids.is_empty();
    wire::DiscoverRequest {
        credentials: query.credential.as_ref().map(credentials_to_wire),
        datacenter: query.credential.as_ref().and_then(|it| it.datacenter.clone()),
        filter: is_narrow.then_some(filter),
    }
}

/// A login as it travels.
pub(crate) fn credentials_to_wire(credential: &Credential) -> wire::Credentials {
    wire::Credentials {
        vcenter: credential.vcenter_host.clone(),
        username: credential.username.clone(),
        password: credential.password.expose_secret().to_owned(),
    }
}

/// Reads an inventory; an error says what is wrong with the whole of it.
pub(crate) fn inventory_from_wire(answer: &[u8]) -> Result<SeenInventory, String> {
    match serde_json::from_slice::<wire::Inventory>(answer) {
        Ok(inventory) => {
            let vms = inventory.vms.into_iter().map(Ok).collect();
            checked(&inventory.vcenter, vms, inventory.warnings)
        }
        // One odd field must not hide the other VMs: read again, each VM by itself.
        Err(_) => {
            let loose: LooseInventory =
                serde_json::from_slice(answer).map_err(|error| json_error(&error))?;
            let vms = loose.vms.into_iter().enumerate().map(loose_vm).collect();
            checked(&loose.vcenter, vms, loose.warnings)
        }
    }
}

#[derive(Deserialize)]
struct LooseInventory {
    vcenter: wire::Vcenter,
    vms: Vec<Value>,
    #[serde(default)]
    warnings: Vec<wire::Warning>,
}

fn loose_vm((index, mut vm): (usize, Value)) -> Result<wire::Vm, RejectedVm> {
    let subject = ["name", "id"].iter().find_map(|field| vm.get(field).and_then(Value::as_str));
    let subject = subject.map_or_else(|| format!("VM number {}", index + 1), ToOwned::to_owned);
    drop_odd_optionals(&mut vm);
    wire::Vm::deserialize(vm)
        .map_err(|error| rejected(&subject, format!("it is not described as a VM is: {error}")))
}

/// Takes away what may be absent and is nothing that the type can hold: nulls, and counts out of range.
fn drop_odd_optionals(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| {
                let fits = match name.as_str() {
                    "num_cpu" | "memory_mb" | "unit_number" | "bus_number" => {
                        field.as_u64().is_some_and(|count| count <= u64::from(u32::MAX))
                    }
                    "device_key" => field.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
                    "used_bytes" => field.is_u64(),
                    _ => true,
                };
                fits && !field.is_null()
            });
            fields.values_mut().for_each(drop_odd_optionals);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_odd_optionals),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

fn checked(
    vcenter: &wire::Vcenter,
    vms: Vec<Result<wire::Vm, RejectedVm>>,
    warnings: Vec<wire::Warning>,
) -> Result<SeenInventory, String> {
    let host = text::required("vcenter host", &vcenter.host, MAX_TEXT);
    let vcenter_host = host.map_err(|error| error.to_string())?;
    let datacenter = text::optional("datacenter", &vcenter.datacenter, MAX_TEXT);
    let datacenter = datacenter.map_err(|error| error.to_string())?;
    let vcenter_uuid = uuid("instance_uuid", vcenter.instance_uuid.as_deref());
    let vcenter_uuid = vcenter_uuid.map_err(|error| error.to_string())?;
    let (vms_seen, rejected_vms) = (Vec::new(), Vec::new());
    let mut seen = SeenInventory {
        vcenter_host,
        vcenter_uuid,
        datacenter,
        vms: vms_seen,
        rejected: rejected_vms,
    };
    seen.rejected.extend(warnings.into_iter().map(|it| rejected(&it.subject, it.detail)));
    for vm in vms {
        let vm = vm.and_then(|vm| {
            let subject = if vm.name.trim().is_empty() { vm.id.clone() } else { vm.name.clone() };
            seen_vm(vm, &seen).map_err(|detail| rejected(&subject, detail))
        });
        match vm {
            Ok(vm) => seen.vms.push(vm),
            Err(rejection) => seen.rejected.push(rejection),
        }
    }
    reject_shared_ids(&mut seen);
    Ok(seen)
}

/// Two VMs with one id cannot be told apart, so neither may be taken for the other (trap C19).
fn reject_shared_ids(seen: &mut SeenInventory) {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys: BTreeMap<VmKey, usize> = BTreeMap::new();
    for vm in &seen.vms {
        *ids.entry(vm.facts.vmware_vm_id.clone()).or_default() += 1;
        *keys.entry(vm.facts.key()).or_default() += 1;
    }
    if ids.values().chain(keys.values()).all(|count| *count == 1) {
        return;
    }
    let is_alone = |vm: &SeenVm| {
        ids.get(&vm.facts.vmware_vm_id) == Some(&1) && keys.get(&vm.facts.key()) == Some(&1)
    };
    let (kept, shared): (Vec<SeenVm>, Vec<SeenVm>) =
        std::mem::take(&mut seen.vms).into_iter().partition(is_alone);
    seen.vms = kept;
    seen.rejected.extend(shared.into_iter().map(|vm| {
        let VmFacts { name, path, vmware_vm_id, .. } = vm.facts;
        let detail =
            format!("{path} shares its id {vmware_vm_id} with another VM; give one a new id");
        rejected(&name, detail)
    }));
}

fn seen_vm(vm: wire::Vm, source: &SeenInventory) -> Result<SeenVm, String> {
    let facts = vm_facts(&vm, source).map_err(|error| error.to_string())?;
    let mut keys = BTreeSet::new();
    let mut disks = Vec::with_capacity(vm.disks.len());
    for disk in vm.disks {
        let disk = disk_facts(disk)?;
        if !keys.insert(disk.key.clone()) {
            return Err(format!("two of its disks have the id {}", disk.key));
        }
        disks.push(disk);
    }
    Ok(SeenVm { facts, disks, vmx_version: vm.vmx_version.as_deref().map(shortened) })
}

fn vm_facts(vm: &wire::Vm, source: &SeenInventory) -> Result<VmFacts, text::InvalidText> {
    Ok(VmFacts {
        name: text::required("name", &vm.name, MAX_TEXT)?,
        vmware_vm_id: text::required("id", &vm.id, MAX_KEY)?,
        path: text::optional("path", &vm.path, MAX_PATH)?,
        instance_uuid: uuid("instance_uuid", vm.instance_uuid.as_deref())?,
        moref: key("moref", vm.moref.as_deref())?,
        vcenter_host: source.vcenter_host.clone(),
        vcenter_uuid: source.vcenter_uuid.clone(),
        datacenter: given("datacenter", vm.datacenter.as_deref())?
            .unwrap_or_else(|| source.datacenter.clone()),
        cpu_count: vm.num_cpu.filter(|count| *count > 0).and_then(stored_count),
        memory_mb: vm.memory_mb.filter(|count| *count > 0).and_then(stored_count),
        os_type: given("guest_os", vm.guest_os.as_deref())?,
        power_state: given("power_state", vm.power_state.as_deref())?,
        conditions: conditions::of_vm(vm)?,
    })
}

fn disk_facts(disk: wire::VmDisk) -> Result<DiskFacts, String> {
    let key = DiskKey::new(&disk.id).map_err(|error| error.to_string())?;
    let capacity = Capacity::new(disk.capacity_bytes)
        .map_err(|error| format!("disk {key} cannot be protected: {error}"))?;
    let of_disk = |error: text::InvalidText| format!("disk {key}: {error}");
    Ok(DiskFacts {
        label: text::optional("label", &disk.label, MAX_TEXT).map_err(of_disk)?,
        vmdk_path: text::optional("path", &disk.path, MAX_PATH).map_err(of_disk)?,
        datastore: text::optional("datastore", &disk.datastore, MAX_TEXT).map_err(of_disk)?,
        capacity,
        provisioning_type: given("provisioning_type", disk.provisioning_type.as_deref())
            .map_err(of_disk)?,
        bus: given("bus", disk.bus.as_deref()).map_err(of_disk)?,
        unit_number: disk.unit_number.and_then(stored_count),
        backing_uuid: uuid("backing_uuid", disk.backing_uuid.as_deref()).map_err(of_disk)?,
        conditions: conditions::of_disk(&disk).map_err(of_disk)?,
        key,
    })
}

/// An optional id of an index; an empty one is none.
fn key(field: &'static str, text: Option<&str>) -> Result<Option<String>, text::InvalidText> {
    let text = text::optional(field, text.unwrap_or_default(), MAX_KEY)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// An optional UUID: in lower case, since two spellings of one must not be two.
pub(crate) fn uuid(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<String>, text::InvalidText> {
    Ok(key(field, text)?.map(|uuid| uuid.to_ascii_lowercase()))
}

/// An optional text; an empty one is none.
pub(crate) fn given(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<String>, text::InvalidText> {
    let text = text::optional(field, text.unwrap_or_default(), MAX_TEXT)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A count that every database can store; others are as good as unknown.
fn stored_count(count: impl TryInto<i32>) -> Option<u32> {
    count.try_into().ok().and_then(|count: i32| u32::try_from(count).ok())
}

fn rejected(subject: &str, detail: impl AsRef<str>) -> RejectedVm {
    let cut = |text: &str| shortened(text).chars().take(MAX_SUBJECT).collect();
    RejectedVm { subject: cut(subject), detail: cut(detail.as_ref()) }
}

#[cfg(test)]
mod tests;
