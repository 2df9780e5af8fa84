//! Disks of a VM.

use std::fmt;

use crate::capacity::Capacity;
use crate::conditions::DiskConditions;
use crate::ids::{ReplicationJobId, VmContextId, VmDiskId};
use crate::text::{self, InvalidText};
use crate::time::Timestamp;

/// One stored disk of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDisk {
    /// Ours: the row's number.
    pub id: VmDiskId,
    /// Its VM.
    pub vm: VmContextId,
    /// The replication job that is linked to it; none is needed for anything else.
    pub job: Option<ReplicationJobId>,
    /// Its place in the VM: 0, 1, 2…; given once and never given to another disk of the VM.
    pub ordinal: u32,
    /// What the source said last.
    pub facts: DiskFacts,
    /// Whether the source still has it.
    pub presence: Presence,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
}

impl VmDisk {
    /// Whether the source still has it.
    pub fn is_present(&self) -> bool {
        self.presence == Presence::Present
    }
}

/// What a source says about a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// The hypervisor's own id; one present disk's in a VM.
    pub key: DiskKey,
    /// Id of the disk behind the device: it tells a disk that moved from another one under its key.
    pub backing_uuid: Option<String>,
    /// Label (`Hard disk 1`).
    pub label: String,
    /// Datastore path.
    pub vmdk_path: String,
    /// Datastore name.
    pub datastore: String,
    /// Exact capacity.
    pub capacity: Capacity,
    /// `thin`, `thick`, …
    pub provisioning_type: Option<String>,
    /// Bus, as in `scsi0`.
    pub bus: Option<String>,
    /// Unit on its bus.
    pub unit_number: Option<u32>,
    /// What decides how it can be backed up.
    pub conditions: DiskConditions,
}

impl DiskFacts {
    /// Capacity in GiB, rounded to the nearest: for people, never for arithmetic (trap C6).
    pub fn size_gb(&self) -> u64 {
        const GIB: u64 = 1 << 30;
        (self.capacity.bytes() + GIB / 2) / GIB
    }
}

/// The hypervisor's own id of a disk, such as `disk-2000`; never an ordinal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskKey(String);

impl DiskKey {
    /// Checks a key: not empty, at most [`text::MAX_KEY`] characters.
    pub fn new(key: &str) -> Result<Self, InvalidText> {
        text::required("disk id", key, text::MAX_KEY).map(Self)
    }

    /// The key as the hypervisor spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether the source still has a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Seen at the last discovery.
    Present,
    /// Gone from the source; kept, because restore points may stand on it.
    Retired,
}

impl Presence {
    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Retired => "retired",
        }
    }

    /// The presence of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Present, Self::Retired].into_iter().find(|it| it.word() == word)
    }
}

/// A disk that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    /// Its VM.
    pub vm: VmContextId,
    /// The ordinal it gets.
    pub ordinal: u32,
    /// What the source says.
    pub facts: DiskFacts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_c6_gib_are_rounded_for_people_only() {
        let facts = DiskFacts {
            key: DiskKey::new("disk-2000").unwrap(),
            backing_uuid: None,
            label: String::new(),
            vmdk_path: String::new(),
            datastore: String::new(),
            capacity: Capacity::new(109_521_666_048).unwrap(),
            provisioning_type: None,
            bus: None,
            unit_number: None,
            conditions: DiskConditions::default(),
        };
        assert_eq!(facts.size_gb(), 102);
    }
}
