//! What a run says of itself beside how it ended: who copied it, and what somebody should know of it.

use std::collections::BTreeSet;

use crate::access::VmaNode;
use crate::disk::VmDisk;
use crate::ids::VmaNodeId;
use crate::time::Timestamp;

/// What a run or a replication says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// The VMA that was chosen last; stored before the copy is ordered, so that an order may have reached this one and
    /// no other.
    pub copied_by: Option<CopiedBy>,
    /// What is not as it was asked for, or will not be as expected; nothing of it lets the job fail.
    pub warnings: Vec<Warning>,
}

/// The VMA of a copy, under the name that it had then: it may be taken out later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedBy {
    /// Which.
    pub vma: VmaNodeId,
    /// Its name.
    pub name: String,
}

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable, with a slash (`vm/other-vma`); each has a page under `docs/problems`.
    pub code: String,
    /// What it is and what comes of it; never a secret.
    pub detail: String,
}

impl Remarks {
    /// What a job says from when it is taken to work: its VMA and the warnings of this time, in the place of those of an
    /// earlier attempt.
    pub fn at_work(node: &VmaNode, warnings: Vec<Warning>) -> Self {
        let copied_by = CopiedBy { vma: node.id, name: node.name.clone() };
        Self { copied_by: Some(copied_by), warnings }
    }

    /// The VMA that an order may have reached already: that of an attempt before, however it was lost.
    ///
    /// A job of an earlier release does not say whom it ordered; that was the VM's own VMA.
    pub fn ordered(&self, is_first_attempt: bool, own: Option<VmaNodeId>) -> Option<VmaNodeId> {
        if is_first_attempt { None } else { self.copied_by.as_ref().map(|it| it.vma).or(own) }
    }

    /// The warning that another VMA copies, which holds for all attempts of a job.
    pub fn of_other_vma(&self) -> Option<&Warning> {
        self.warnings.iter().find(|it| it.code == Warning::OTHER_VMA)
    }
}

impl Warning {
    /// The code of [`Warning::other_vma`].
    pub const OTHER_VMA: &'static str = "vm/other-vma";

    /// Makes a warning from its parts.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }

    /// Another VMA than the VM's own copies, and why.
    pub fn other_vma(why: impl Into<String>) -> Self {
        Self::new(Self::OTHER_VMA, why)
    }

    /// Disks that the VM has got since all of its disks were asked for: a job has the disks that it was stored with.
    ///
    /// `jobs` are the ordinals of the job; one that leaves out a disk which was there before was not asked for all, and
    /// misses nothing.
    pub fn of_added_disks(
        disks: &[VmDisk],
        jobs: &BTreeSet<u32>,
        asked_at: Timestamp,
    ) -> Option<Self> {
        let missing: Vec<&VmDisk> =
            disks.iter().filter(|it| it.is_present() && !jobs.contains(&it.ordinal)).collect();
        if missing.is_empty() || missing.iter().any(|disk| disk.created_at <= asked_at) {
            return None;
        }
        let names: Vec<String> = missing.iter().map(|disk| disk.facts.key.to_string()).collect();
        let (names, it) = (names.join(", "), if missing.len() == 1 { "it is" } else { "they are" });
        let detail = format!(
            "the VM has got {names} since this was asked for; {it} not copied with it, and {it} with the next that is asked for"
        );
        Some(Self::new("vm/disk-added", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Capacity;
    use crate::conditions::DiskConditions;
    use crate::disk::{DiskFacts, DiskKey, Presence};
    use crate::ids::{VmContextId, VmDiskId};

    fn disk(ordinal: u32, second: i64) -> VmDisk {
        let at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
        VmDisk {
            id: VmDiskId::from_raw(i64::from(ordinal)),
            vm: VmContextId::from_uuid(uuid::Uuid::nil()),
            job: None,
            ordinal,
            facts: DiskFacts {
                key: DiskKey::new(&format!("disk-{}", 2000 + ordinal)).unwrap(),
                backing_uuid: None,
                label: String::new(),
                vmdk_path: String::new(),
                datastore: String::new(),
                capacity: Capacity::new(512).unwrap(),
                provisioning_type: None,
                bus: None,
                unit_number: None,
                conditions: DiskConditions::default(),
            },
            presence: Presence::Present,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn a_disk_that_came_later_is_named_unless_one_disk_was_asked_for() {
        let asked_at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(5);
        let added = |disks: &[VmDisk], jobs: &[u32]| {
            let jobs = jobs.iter().copied().collect();
            Warning::of_added_disks(disks, &jobs, asked_at).map(|it| it.detail)
        };
        let disks = [disk(0, 1), disk(1, 5), disk(2, 6), disk(3, 7)];
        assert_eq!(added(&disks[..2], &[0, 1]), None);
        let detail = added(&disks[..3], &[0, 1]).unwrap();
        assert!(
            detail.contains("has got disk-2002 since") && detail.contains("it is with"),
            "{detail}"
        );
        let detail = added(&disks, &[0, 1]).unwrap();
        assert!(detail.contains("disk-2002, disk-2003 since"), "{detail}");
        assert_eq!(added(&disks, &[0]), None, "one disk was asked for");
        assert_eq!(added(&disks, &[0, 1, 2, 3]), None);
        let mut gone = disk(2, 6);
        gone.presence = Presence::Retired;
        assert_eq!(added(&[disk(0, 1), gone], &[0]), None);
    }
}
