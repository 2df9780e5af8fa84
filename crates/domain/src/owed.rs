//! Owed clean-ups: snapshots that a copy may have taken, written down before it could take them.

use std::time::Duration;

use crate::fault::Fault;
use crate::ids::{BackupRunId, CredentialId, ReplicationJobId, VmContextId, VmaNodeId};
use crate::time::Timestamp;
use crate::vm::VmContext;

/// A snapshot that may be left at a source; the record goes when a VMA has said that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedCleanup {
    /// What the copy is called at the VMA; its snapshot carries this name.
    pub copy: String,
    /// Whose copy it is.
    pub job: OwedBy,
    /// The VM; the record outlives the VM context.
    pub vm: VmContextId,
    /// The VM's name when the copy was ordered.
    pub vm_name: String,
    /// The source's id of the VM.
    pub vmware_vm_id: String,
    /// Which vCenter or host the VM is of: its own id, or its address where it has none.
    pub source: String,
    /// The VMA that was ordered to copy.
    pub vma_node: VmaNodeId,
    /// The login that it was given.
    pub credential: Option<CredentialId>,
    /// Since when it is owed: just before the copy was ordered.
    pub since: Timestamp,
    /// When it was written down last: the same copy may be ordered again after a VMA had no room for it.
    pub ordered_at: Timestamp,
    /// How often it was asked for in vain.
    pub tries: u32,
    /// When it was asked for last.
    pub tried_at: Option<Timestamp>,
    /// Why that was in vain.
    pub fault: Option<Fault>,
}

/// Whose copy owes a clean-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwedBy {
    /// A backup run's.
    Backup(BackupRunId),
    /// A replication's.
    Replication(ReplicationJobId),
}

impl OwedBy {
    /// The word for its kind in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Replication(_) => "replication",
        }
    }
}

impl OwedCleanup {
    /// What a copy that is about to be ordered may leave.
    pub fn of_copy(
        copy: &str,
        job: OwedBy,
        vm: &VmContext,
        vma_node: VmaNodeId,
        credential: Option<CredentialId>,
        at: Timestamp,
    ) -> Self {
        let facts = &vm.facts;
        Self {
            copy: copy.to_owned(),
            job,
            vm: vm.id,
            vm_name: facts.name.clone(),
            vmware_vm_id: facts.vmware_vm_id.clone(),
            source: facts.vcenter_uuid.as_ref().unwrap_or(&facts.vcenter_host).clone(),
            vma_node,
            credential,
            since: at,
            ordered_at: at,
            tries: 0,
            tried_at: None,
            fault: None,
        }
    }

    /// How long it has been owed.
    pub fn age(&self, now: Timestamp) -> Duration {
        (now - self.since).to_std().unwrap_or_default()
    }

    /// The same after it was asked for in vain.
    #[must_use]
    pub fn in_vain(self, fault: Fault, at: Timestamp) -> Self {
        let tries = self.tries.saturating_add(1);
        Self { tries, tried_at: Some(at), fault: Some(fault), ..self }
    }
}

/// The longest that a clean-up which was asked for in vain waits to be asked for again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// How long a clean-up waits to be asked for again, after so many answers in a row that were in vain.
///
/// A minute at first, because most of what stands in the way is over by then; half an hour in the end, because a VM that
/// is gone for good stays gone, and each answer costs its source a login.
pub fn pause_after(in_vain: u32) -> Duration {
    match in_vain {
        0 => Duration::ZERO,
        // Five doublings are more than the longest.
        _ => Duration::from_secs(60 << (in_vain - 1).min(5)).min(LONGEST_PAUSE),
    }
}

/// What became of a clean-up that a VMA was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupOutcome {
    /// There was a snapshot of the copy, and it is gone.
    Removed,
    /// There is none.
    None,
    /// It may be there still, and why.
    Failed(Fault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_from_a_minute_to_half_an_hour_and_no_further() {
        let minutes = |in_vain| pause_after(in_vain).as_secs_f64() / 60.0;
        let first: Vec<f64> = (0..8).map(minutes).collect();
        assert_eq!(first, [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
