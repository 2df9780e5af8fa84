//! What a hypervisor says of a VM and its disks that decides how, and whether, they can be backed up.
//!
//! Absent means "not said", never "no": a datastore folder and an older VMA say little. Words stay the hypervisor's.

/// Most networks of one VM that are kept; a VM has ten adapters at most.
pub const MAX_NETWORKS: usize = 64;

/// Most snapshots of one VM that are kept.
pub const MAX_SNAPSHOTS: usize = 512;

/// The conditions of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmConditions {
    /// Hardware version (`vmx-15`).
    pub hardware_version: Option<String>,
    /// Whether it is a template.
    pub template: Option<bool>,
    /// Its snapshots, parents before their children; empty when it has none.
    pub snapshots: Option<Vec<VmSnapshot>>,
    /// Whether its changed blocks can be tracked.
    pub tracking_supported: Option<bool>,
    /// Whether tracking them is switched on; it is active for a disk only when that has a change id, too.
    pub tracking_enabled: Option<bool>,
    /// Whether deltas of removed snapshots wait to be merged.
    pub consolidation_needed: Option<bool>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// State of fault tolerance; `notConfigured` is none.
    pub fault_tolerance: Option<String>,
    /// Whether its host answers for it: `connected`, `disconnected`, `inaccessible`, …
    pub connection: Option<String>,
    /// State of the guest's tools: `guestToolsRunning`, `guestToolsNotRunning`, …
    pub tools: Option<String>,
    /// Whether the guest is to be brought to rest for a snapshot.
    pub quiesced: Option<bool>,
    /// Whether the reader of its disks reads them beneath snapshots of others.
    pub reads_snapshots: Option<bool>,
    /// Why the reader of its disks cannot begin with it.
    pub refusal: Option<String>,
    /// Its network adapters; empty also where nothing was said of any.
    pub networks: Vec<VmNetwork>,
}

impl VmConditions {
    /// Whether the source said nothing at all.
    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }

    /// The number of a hardware version: 15 of `vmx-15`.
    pub fn hardware_number(&self) -> Option<u32> {
        self.hardware_version.as_deref()?.strip_prefix("vmx-")?.parse().ok()
    }
}

/// One network adapter of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmNetwork {
    /// Label.
    pub label: String,
    /// The name of its network or port group, as people see it.
    pub network_name: String,
    /// MAC address.
    pub mac_address: String,
    /// Adapter model.
    pub adapter_type: String,
}

/// One snapshot of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSnapshot {
    /// Reference of the managed object.
    pub id: String,
    /// Name.
    pub name: String,
    /// When it was taken, as the source spells it.
    pub created: Option<String>,
    /// The snapshot that it stands on.
    pub parent: Option<String>,
    /// Whether the guest was quiesced for it.
    pub quiesced: Option<bool>,
}

/// What the name of every snapshot begins with that a VMA takes for a job; the job's id follows, or a digest of it.
const JOB_SNAPSHOT: &str = "sendense-hub job ";

impl VmSnapshot {
    /// Whether a VMA took it for a job, and removes it again: whoever removes it by hand ends that job.
    pub fn is_of_a_job(&self) -> bool {
        let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        let job = self.name.strip_prefix(JOB_SNAPSHOT);
        job.is_some_and(|it| (1..=60).contains(&it.len()) && it.chars().all(plain))
    }
}

/// The conditions of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskConditions {
    /// The hypervisor's number of the device.
    pub device_key: Option<i32>,
    /// Kind of its controller (`scsi`, `nvme`).
    pub controller: Option<String>,
    /// Number of that controller among those of its kind.
    pub bus_number: Option<u32>,
    /// `persistent`, `independent_persistent`, …
    pub mode: Option<String>,
    /// `none`, `multi_writer`, `virtual_bus` or `physical_bus`.
    pub sharing: Option<String>,
    /// Bytes that it takes on its datastore.
    pub used_bytes: Option<u64>,
    /// Raw device mapping: `physical`, `virtual` or `none`.
    pub rdm: Option<String>,
    /// Whether its backing carries a change id.
    pub has_change_id: Option<bool>,
    /// Kind of its file: `flat`, `sparse`, `se_sparse`, `raw`, or the hypervisor's own word.
    pub format: Option<String>,
    /// Kind of its datastore, as the hypervisor says it: `VMFS`, `NFS`, `vsan`, …
    pub datastore_type: Option<String>,
    /// How it would be read: `vddk` or `https`.
    pub reader: Option<String>,
    /// Why it cannot be read so, although it could be otherwise.
    pub refusal: Option<String>,
}

impl DiskConditions {
    /// Whether the source said nothing at all.
    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }

    /// The same, with what is old where nothing at all was said.
    #[must_use]
    pub fn or(self, old: &Self) -> Self {
        if self.is_unsaid() { old.clone() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_version_has_a_number_or_none() {
        let version = |text: &str| VmConditions {
            hardware_version: Some(text.to_owned()),
            ..VmConditions::default()
        };
        assert_eq!(version("vmx-04").hardware_number(), Some(4));
        assert_eq!(version("vmx-21").hardware_number(), Some(21));
        assert_eq!(version("21").hardware_number(), None);
        assert_eq!(VmConditions::default().hardware_number(), None);
    }
}
