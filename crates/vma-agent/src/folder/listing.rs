//! A VM of a folder as discovery shows it.

use hub_vma_api::{Vm, VmDisk, VmNetwork, Warning};

use super::folder_vm::FolderVm;
use super::plan::disk_chain;
use crate::vmdk::{Chain, CreateType, Datastore};
use crate::vmx::VirtualDisk;

const GIB: u64 = 1 << 30;

/// Describes a VM with its disks; one disk that cannot be read makes the whole VM a warning.
pub(super) fn vm(source: &str, stores: &[Datastore], vm: &FolderVm) -> Result<Vm, Warning> {
    let disks = vm.vmx.disks.iter().enumerate();
    let disks = disks.map(|(ordinal, disk)| vm_disk(stores, vm, ordinal, disk));
    let disks = disks.collect::<Result<Vec<_>, _>>();
    let disks = disks.map_err(|detail| vm.warning(&detail))?;
    let (vmx, store) = (&vm.vmx, vm.store.name());
    Ok(Vm {
        id: vm.id.clone(),
        name: vm.name.clone(),
        path: format!("/{source}/{store}/{}", vm.directory()),
        power_state: Some(vm.power.name().to_owned()),
        guest_os: vmx.guest_os.clone(),
        num_cpu: Some(vmx.num_cpu),
        memory_mb: Some(vmx.memory_mb),
        vmx_version: vmx.hardware_version.clone(),
        disks,
        networks: networks(vm),
        ..Vm::default()
    })
}

fn vm_disk(
    stores: &[Datastore],
    vm: &FolderVm,
    ordinal: usize,
    disk: &VirtualDisk,
) -> Result<VmDisk, String> {
    let (located, chain) = disk_chain(stores, vm, disk).map_err(|it| it.to_string())?;
    let store = located.store;
    let path = chain.top().map(|it| store.label(&it.path)).unwrap_or_default();
    let capacity_bytes = chain.capacity();
    Ok(VmDisk {
        id: disk.slot.disk_id(),
        label: format!("Hard disk {}", ordinal + 1),
        path,
        size_gb: gib(capacity_bytes),
        capacity_bytes,
        datastore: store.name().to_owned(),
        provisioning_type: Some(provisioning(&chain).to_owned()),
        unit_number: Some(disk.slot.unit()),
        bus: Some(disk.slot.controller()),
        ..VmDisk::default()
    })
}

fn networks(vm: &FolderVm) -> Vec<VmNetwork> {
    let network = |it: &crate::vmx::Adapter| VmNetwork {
        label: format!("Network adapter {}", it.number + 1),
        network_name: it.network.clone(),
        mac_address: it.mac_address.clone(),
        adapter_type: it.model.clone(),
    };
    vm.vmx.adapters.iter().map(network).collect()
}

/// GiB, rounded, and never 0 for a disk that exists.
fn gib(bytes: u64) -> u64 {
    (bytes.saturating_add(GIB / 2) / GIB).max(1)
}

/// Thin or thick, by what the base is: its type, what its descriptor says, or the space it takes.
fn provisioning(chain: &Chain) -> &'static str {
    let Some(base) = chain.base() else { return "thick" };
    let thin = match base.descriptor.create_type {
        CreateType::MonolithicSparse
        | CreateType::TwoGbMaxExtentSparse
        | CreateType::StreamOptimized
        | CreateType::VmfsSparse
        | CreateType::SeSparse => true,
        CreateType::MonolithicFlat | CreateType::TwoGbMaxExtentFlat | CreateType::Vmfs => {
            let takes_less = base.allocated() < base.descriptor.capacity();
            base.descriptor.thin.unwrap_or(takes_less)
        }
    };
    if thin { "thin" } else { "thick" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people_are_rounded() {
        assert_eq!(gib(109_521_666_048), 102);
        assert_eq!(gib(5 * GIB + GIB / 2), 6);
        assert_eq!(gib(5 * GIB + GIB / 2 - 1), 5);
        assert_eq!(gib(512), 1);
    }
}
