//! Which VM and which disk a question about backups means; backups outlive the VM context they were made of.

use hub_domain::disk::DiskKey;
use hub_domain::ids::VmContextId;
use hub_domain::selector::DiskSelector;
use hub_domain::vm::VmAddress;
use hub_ports::store::{BackupFilter, FindVmError, find_vm};
use hub_ports::{Catalogue, ErrorClass};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// Most backups that are looked through for a disk that is gone from the inventory.
const LOOKED_THROUGH: u32 = 500;

/// A disk in a request's body: the ordinal, as a number or as digits, or the hypervisor's id.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum DiskId {
    /// The ordinal.
    #[schema(value_type = u32)]
    Number(f64),
    /// The ordinal in digits, or the hypervisor's id (`disk-2000`).
    Text(String),
}

impl DiskId {
    /// What it selects.
    pub(crate) fn selector(&self) -> Result<DiskSelector, Problem> {
        let text = match self {
            Self::Text(text) => text.clone(),
            // Whole numbers print without a fraction, however JSON spelled them; others name no disk.
            Self::Number(number) if number.fract() == 0.0 => format!("{number}"),
            Self::Number(number) => format!("-{number}"),
        };
        selector(&text)
    }
}

/// What a text selects.
pub(crate) fn selector(text: &str) -> Result<DiskSelector, Problem> {
    DiskSelector::parse(text).map_err(|error| Problem::field("/disk_id", error))
}

/// The VM of a question about backups: one under management, or one that was when they were made.
pub(crate) async fn backed_up_vm(
    catalogue: &mut dyn Catalogue,
    address: &VmAddress,
) -> Result<VmContextId, Problem> {
    let not_found = match find_vm(catalogue, address).await {
        Ok(vm) => return Ok(vm.id),
        Err(error @ FindVmError::NotFound(_)) => error,
        Err(error) => return Err(error.into()),
    };
    if let VmAddress::Id(id) = address {
        let filter = BackupFilter { vm: Some(*id), ..BackupFilter::default() };
        if !catalogue.backups_page(&filter, None, 1).await?.is_empty() {
            return Ok(*id);
        }
    }
    let name = match address {
        VmAddress::Id(id) => id.to_string(),
        VmAddress::Name(name) => name.clone(),
    };
    let mut had_it = catalogue.backed_up_vms_named(&name).await?;
    match (had_it.pop(), had_it.is_empty()) {
        (Some(vm), true) => Ok(vm),
        (Some(_), false) => {
            let detail = format!(
                "several VMs that had the name {name} have backups; give the vm_context_id of one"
            );
            Err(Problem::new(ErrorClass::Conflict, "vm/ambiguous-name", detail))
        }
        (None, _) => Err(not_found.into()),
    }
}

/// The ordinal of a disk of a VM; a disk that is gone is known by its backups.
pub(crate) async fn ordinal_of(
    catalogue: &mut dyn Catalogue,
    vm: VmContextId,
    disk: &DiskSelector,
) -> Result<u32, Problem> {
    let key = match disk {
        DiskSelector::All => return Ok(0),
        DiskSelector::Ordinal(ordinal) => return known_ordinal(catalogue, vm, *ordinal).await,
        DiskSelector::Key(key) => key,
    };
    let disks = catalogue.disks_of(&[vm]).await?;
    // A retired disk may have had the key before: the one that has it now is meant, or else the last that had it.
    let had_it = disks.iter().filter(|it| it.facts.key == *key);
    if let Some(found) = had_it.max_by_key(|it| (it.is_present(), it.ordinal)) {
        return Ok(found.ordinal);
    }
    let filter = BackupFilter { vm: Some(vm), ..BackupFilter::default() };
    let backups = catalogue.backups_page(&filter, None, LOOKED_THROUGH).await?;
    let had_it = backups.iter().flatten().filter(|it| it.disk_key == *key);
    had_it.map(|it| it.ordinal).max().ok_or_else(|| unknown_disk(key))
}

async fn known_ordinal(
    catalogue: &mut dyn Catalogue,
    vm: VmContextId,
    ordinal: u32,
) -> Result<u32, Problem> {
    let disks = catalogue.disks_of(&[vm]).await?;
    if disks.iter().any(|it| it.ordinal == ordinal) {
        return Ok(ordinal);
    }
    let filter = BackupFilter { vm: Some(vm), ordinal: Some(ordinal), ..BackupFilter::default() };
    if catalogue.backups_page(&filter, None, 1).await?.is_empty() {
        return Err(disk_not_found(&ordinal.to_string()));
    }
    Ok(ordinal)
}

fn unknown_disk(key: &DiskKey) -> Problem {
    disk_not_found(key.as_str())
}

fn disk_not_found(disk: &str) -> Problem {
    let detail = format!(
        "disk_id {disk} not found for this VM, neither among its disks nor among its backups"
    );
    Problem::new(ErrorClass::Invalid, "backup/disk-not-found", detail)
}

#[cfg(test)]
mod tests {
    use hub_domain::disk::{NewDisk, Presence};
    use hub_ports::Store as _;
    use hub_testkit::MemStore;
    use hub_testkit::store_contract::samples::{add_vm, at, disks};

    use super::*;

    fn read(json: &str) -> Option<DiskSelector> {
        serde_json::from_str::<DiskId>(json).ok()?.selector().ok()
    }

    #[tokio::test]
    async fn trap_d8_a_key_means_the_disk_that_has_it_now() {
        let store = MemStore::default();
        let vm = add_vm(&store, 1).await.unwrap();
        let mut old = disks(&store, vm.id).await.unwrap().remove(0);
        old.presence = Presence::Retired;
        let new = NewDisk { vm: vm.id, ordinal: 2, facts: old.facts.clone() };
        let key = DiskSelector::Key(old.facts.key.clone());
        let mut work = store.begin().await.unwrap();
        work.update_disks(&[old]).await.unwrap();
        work.insert_disks(&[new], at(4)).await.unwrap();
        work.commit().await.unwrap();
        let mut view = store.view().await.unwrap();
        assert_eq!(ordinal_of(view.as_mut(), vm.id, &key).await.ok(), Some(2));
        // The one that is gone has its ordinal.
        let zero = DiskSelector::Ordinal(0);
        assert_eq!(ordinal_of(view.as_mut(), vm.id, &zero).await.ok(), Some(0));
    }

    #[test]
    fn a_disk_is_named_by_ordinal_or_by_the_hypervisor() {
        for zero in ["0", "0.0", "\"0\""] {
            assert_eq!(read(zero), Some(DiskSelector::Ordinal(0)), "{zero}");
        }
        let key = DiskKey::new("disk-2000").unwrap();
        assert_eq!(read("\"disk-2000\""), Some(DiskSelector::Key(key)));
        assert_eq!(read("\"x\""), Some(DiskSelector::Key(DiskKey::new("x").unwrap())));
        for bad in ["-1", "\"-1\"", "0.5", "1e30", "\"\"", "true", "[0]"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
