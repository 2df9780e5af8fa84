//! What a discovery sees, checked before anything is stored.

use std::time::Duration;

use crate::disk::DiskFacts;
use crate::time::Timestamp;
use crate::vm::VmFacts;

/// The answer of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInventory {
    /// Which source answered.
    pub vcenter_host: String,
    /// Its own id.
    pub vcenter_uuid: Option<String>,
    /// Its datacenter, or empty.
    pub datacenter: String,
    /// The VMs that can be put under management.
    pub vms: Vec<SeenVm>,
    /// What cannot, and why; one bad VM never hides the others.
    pub rejected: Vec<RejectedVm>,
}

/// One VM of a source, with its disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVm {
    /// The VM itself.
    pub facts: VmFacts,
    /// Its disks in the order of its controllers; no key twice.
    pub disks: Vec<DiskFacts>,
    /// Hardware version (`vmx-15`).
    pub vmx_version: Option<String>,
}

/// A VM, or something that looked like one, that cannot be put under management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedVm {
    /// Its name, or where it was found.
    pub subject: String,
    /// Why, and what to do.
    pub detail: String,
}

/// Whether what a source was asked at one moment still holds at another; a clock that was set back makes nothing fresh.
pub fn is_fresh(asked_at: Timestamp, now: Timestamp, fresh_for: Duration) -> bool {
    (now - asked_at).to_std().is_ok_and(|age| age <= fresh_for)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_answer_is_fresh_for_its_time_and_never_before_its_question(
            asked in -1_000_i64..1_000, now in -1_000_i64..1_000, fresh_for in 0_i64..100,
        ) {
            let at = |second| Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
            let fresh = is_fresh(at(asked), at(now), Duration::from_secs(fresh_for.unsigned_abs()));
            prop_assert_eq!(fresh, (0..=fresh_for).contains(&(now - asked)));
        }
    }
}
