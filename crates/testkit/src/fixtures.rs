//! Values that many tests need: the VMs and disks of the acceptance stories, VMAs, repositories.

use hub_domain::access::{Credential, VmaNode};
use hub_domain::capacity::Capacity;
use hub_domain::conditions::{DiskConditions, VmNetwork};
use hub_domain::disk::{DiskFacts, DiskKey};
use hub_domain::ids::{CredentialId, RepositoryId, VmContextId, VmaNodeId};
use hub_domain::inventory::{SeenInventory, SeenVm};
use hub_domain::repository::{Repository, RepositoryKind};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};
use secrecy::SecretString;
use uuid::Uuid;

/// The host of every fixture's source.
pub const VCENTER: &str = "vc.example.local";

/// Capacity of the first disk of `pgtest1`: 102 GB as people say it.
pub const BIG: u64 = 109_521_666_048;

/// Capacity of the second disk of `pgtest1`.
pub const SMALL: u64 = 5_368_709_120;

/// A disk as a source tells it.
pub fn disk(key: &str, capacity: u64) -> anyhow::Result<DiskFacts> {
    let unit = key.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    Ok(DiskFacts {
        key: DiskKey::new(key)?,
        label: format!("Hard disk {key}"),
        vmdk_path: format!("[datastore1] vm/{key}.vmdk"),
        datastore: "datastore1".to_owned(),
        capacity: Capacity::new(capacity)?,
        provisioning_type: Some("thin".to_owned()),
        bus: Some("scsi0".to_owned()),
        unit_number: unit.map(|unit| unit % 1000),
        backing_uuid: None,
        conditions: DiskConditions::default(),
    })
}

/// What a source says about a VM.
pub fn vm_facts(name: &str, vmware_vm_id: &str) -> VmFacts {
    VmFacts {
        name: name.to_owned(),
        vmware_vm_id: vmware_vm_id.to_owned(),
        path: format!("/DC1/vm/{name}"),
        vcenter_host: VCENTER.to_owned(),
        datacenter: "DC1".to_owned(),
        cpu_count: Some(4),
        memory_mb: Some(8192),
        os_type: Some("ubuntu64Guest".to_owned()),
        power_state: Some("poweredOff".to_owned()),
        ..VmFacts::default()
    }
}

/// A VM as a discovery sees it.
pub fn seen_vm(name: &str, vmware_vm_id: &str, disks: Vec<DiskFacts>) -> SeenVm {
    let mut facts = vm_facts(name, vmware_vm_id);
    facts.conditions.networks = vec![VmNetwork {
        label: "Network adapter 1".to_owned(),
        network_name: "VM Network".to_owned(),
        mac_address: "00:50:56:85:bf:a2".to_owned(),
        adapter_type: "vmxnet3".to_owned(),
    }];
    SeenVm { facts, disks, vmx_version: Some("vmx-15".to_owned()) }
}

/// The VM of the acceptance stories: two disks, [`BIG`] and [`SMALL`].
pub fn pgtest1() -> anyhow::Result<SeenVm> {
    Ok(seen_vm("pgtest1", "vm-1", vec![disk("disk-2000", BIG)?, disk("disk-2001", SMALL)?]))
}

/// The answer of a source that has these VMs.
pub fn inventory(vms: Vec<SeenVm>) -> SeenInventory {
    SeenInventory {
        vcenter_host: VCENTER.to_owned(),
        vcenter_uuid: None,
        datacenter: "DC1".to_owned(),
        vms,
        rejected: Vec::new(),
    }
}

/// A VM under management.
pub fn vm_context(id: u128, facts: VmFacts, vma: Option<VmaNodeId>) -> VmContext {
    VmContext {
        id: VmContextId::from_uuid(Uuid::from_u128(id)),
        facts,
        facts_at: None,
        status: ContextStatus::Discovered,
        credential: None,
        vma_node: vma,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// A registered VMA that reads a datastore folder.
pub fn vma_node(id: u128, name: &str) -> VmaNode {
    VmaNode {
        id: VmaNodeId::from_uuid(Uuid::from_u128(id)),
        name: name.to_owned(),
        url: format!("http://{name}.example.local:8081"),
        token: SecretString::from("vma-token"),
        source_kind: "folder".to_owned(),
        source: Default::default(),
        limits: Default::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

/// A login.
pub fn credential(id: u128, name: &str) -> Credential {
    Credential {
        id: CredentialId::from_uuid(Uuid::from_u128(id)),
        name: name.to_owned(),
        vcenter_host: VCENTER.to_owned(),
        username: "backup@vsphere.local".to_owned(),
        password: SecretString::from("a password"),
        datacenter: None,
        copies: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

/// A local repository.
pub fn repository(id: u128, name: &str) -> Repository {
    Repository {
        id: RepositoryId::from_uuid(Uuid::from_u128(id)),
        name: name.to_owned(),
        kind: RepositoryKind::Local,
        path: format!("/srv/{name}"),
        settings: Default::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}
