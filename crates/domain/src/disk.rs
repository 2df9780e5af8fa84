//! Disks of a VM, and the planner that keeps the stored ones true to the seen ones.

use std::collections::BTreeMap;
use std::fmt;

use crate::capacity::Capacity;
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
    /// The hypervisor's own id, unique within the VM.
    pub key: DiskKey,
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

/// What has to change so that the stored disks of a VM say what the source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskSync {
    /// Disks to insert.
    pub add: Vec<NewDisk>,
    /// Disks whose facts changed or that came back, as they shall be.
    pub update: Vec<VmDisk>,
    /// Disks that the source has no more, as they shall be.
    pub retire: Vec<VmDisk>,
}

impl DiskSync {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.update.is_empty() && self.retire.is_empty()
    }
}

/// Plans the change from the known disks of a VM to the seen ones.
///
/// A known disk keeps its row and its ordinal whatever else changes; a new one gets the next free ordinal in the
/// order seen, and no ordinal is used twice, so that a chain never gets another disk's blocks (traps D7, D8).
pub fn plan_disk_sync(
    vm: VmContextId,
    known: &[VmDisk],
    seen: &[DiskFacts],
    at: Timestamp,
) -> DiskSync {
    let mut sync = DiskSync::default();
    let mut next = known.iter().map(|disk| disk.ordinal + 1).max().unwrap_or(0);
    let mut known: BTreeMap<&DiskKey, &VmDisk> =
        known.iter().map(|disk| (&disk.facts.key, disk)).collect();
    for facts in seen {
        match known.remove(&facts.key) {
            None => {
                sync.add.push(NewDisk { vm, ordinal: next, facts: facts.clone() });
                next += 1;
            }
            Some(old) if old.facts != *facts || old.presence == Presence::Retired => {
                sync.update.push(VmDisk {
                    facts: facts.clone(),
                    presence: Presence::Present,
                    updated_at: at,
                    ..old.clone()
                });
            }
            Some(_) => (),
        }
    }
    sync.retire = known
        .into_values()
        .filter(|disk| disk.is_present())
        .map(|disk| VmDisk { presence: Presence::Retired, updated_at: at, ..disk.clone() })
        .collect();
    sync
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn vm() -> VmContextId {
        VmContextId::from_uuid(Uuid::from_u128(1))
    }

    fn facts(key: &str, bytes: u64) -> DiskFacts {
        DiskFacts {
            key: DiskKey::new(key).unwrap(),
            label: "Hard disk".to_owned(),
            vmdk_path: String::new(),
            datastore: String::new(),
            capacity: Capacity::new(bytes).unwrap(),
            provisioning_type: None,
            bus: None,
            unit_number: None,
        }
    }

    fn stored(id: i64, ordinal: u32, key: &str, bytes: u64) -> VmDisk {
        VmDisk {
            id: VmDiskId::from_raw(id),
            vm: vm(),
            job: None,
            ordinal,
            facts: facts(key, bytes),
            presence: Presence::Present,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn new_disks_get_ordinals_in_the_order_seen() {
        let sync = plan_disk_sync(
            vm(),
            &[],
            &[facts("disk-2000", 512), facts("disk-2001", 512)],
            Timestamp::UNIX_EPOCH,
        );
        let ordinals: Vec<u32> = sync.add.iter().map(|disk| disk.ordinal).collect();
        assert_eq!(ordinals, [0, 1]);
        assert!(sync.update.is_empty() && sync.retire.is_empty());
    }

    #[test]
    fn an_unchanged_vm_needs_no_write() {
        let known = [stored(1, 0, "disk-2000", 512)];
        let sync = plan_disk_sync(vm(), &known, &[facts("disk-2000", 512)], Timestamp::UNIX_EPOCH);
        assert!(sync.is_empty());
    }

    #[test]
    fn trap_d8_a_disk_keeps_its_row_and_no_ordinal_is_used_twice() {
        let known = [stored(1, 0, "disk-2000", 512), stored(2, 1, "disk-2001", 512)];
        let seen = [facts("disk-2001", 1024), facts("disk-2002", 512)];
        let sync = plan_disk_sync(vm(), &known, &seen, Timestamp::UNIX_EPOCH);
        assert_eq!(sync.update[0].id, VmDiskId::from_raw(2));
        assert_eq!(sync.update[0].ordinal, 1);
        assert_eq!(sync.add[0].ordinal, 2);
        assert_eq!(sync.retire[0].id, VmDiskId::from_raw(1));
    }

    #[test]
    fn a_retired_disk_that_comes_back_is_the_same_row() {
        let mut gone = stored(1, 0, "disk-2000", 512);
        gone.presence = Presence::Retired;
        let sync = plan_disk_sync(
            vm(),
            std::slice::from_ref(&gone),
            &[facts("disk-2000", 512)],
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(sync.update[0].presence, Presence::Present);
        let still_gone = plan_disk_sync(vm(), &[gone], &[], Timestamp::UNIX_EPOCH);
        assert!(still_gone.is_empty());
    }

    #[test]
    fn trap_c6_gib_are_rounded_for_people_only() {
        assert_eq!(facts("disk-2000", 109_521_666_048).size_gb(), 102);
    }
}
