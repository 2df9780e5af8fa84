//! What copies at work wait for at their sources: told to people who look, and nowhere stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hub_domain::disk::DiskKey;
use hub_domain::source::{CopyPhase, CopyStatus};
use parking_lot::Mutex;
use uuid::Uuid;

/// What the copies of an engine wait for at their sources; cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct SourceWaits(Arc<Mutex<BTreeMap<Uuid, SourceWait>>>);

/// What one copy waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWait {
    /// In a sentence of its VMA.
    pub reason: String,
    /// The disks that have not begun.
    pub disks: BTreeSet<DiskKey>,
}

impl SourceWaits {
    /// The copies that wait at this moment, by their runs or jobs.
    pub fn all(&self) -> BTreeMap<Uuid, SourceWait> {
        self.0.lock().clone()
    }

    /// Begins to listen to the copy of a run or job; what it waits for is forgotten when the listener is dropped.
    pub fn listen(&self, of: Uuid) -> WaitListener {
        WaitListener { waits: self.clone(), of }
    }
}

/// Hears what one copy waits for.
#[derive(Debug)]
pub struct WaitListener {
    waits: SourceWaits,
    of: Uuid,
}

impl WaitListener {
    /// Takes in a report, the last of which holds.
    pub fn hear(&self, status: &CopyStatus) {
        let wait = status.waiting.as_ref().map(|reason| {
            let queued = status.disks.iter().filter(|disk| disk.phase == CopyPhase::Queued);
            let disks = queued.map(|disk| disk.key.clone()).collect();
            SourceWait { reason: reason.clone(), disks }
        });
        let mut waits = self.waits.0.lock();
        match wait {
            Some(wait) => drop(waits.insert(self.of, wait)),
            None => drop(waits.remove(&self.of)),
        }
    }
}

impl Drop for WaitListener {
    fn drop(&mut self) {
        self.waits.0.lock().remove(&self.of);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hub_domain::source::{CopyBytes, DiskCopyStatus};

    use super::*;

    fn disk(key: &str, phase: CopyPhase) -> DiskCopyStatus {
        DiskCopyStatus {
            key: DiskKey::new(key).unwrap(),
            phase,
            method: "full".to_owned(),
            method_reason: None,
            read_by: None,
            bytes: CopyBytes::default(),
            held_back: Duration::ZERO,
            audit: None,
            change_id: None,
            source_root: None,
            fault: None,
        }
    }

    fn status(waiting: Option<&str>) -> CopyStatus {
        CopyStatus {
            phase: CopyPhase::Running,
            waiting: waiting.map(str::to_owned),
            disks: vec![disk("a", CopyPhase::Running), disk("b", CopyPhase::Queued)],
            fault: None,
            quiescence: None,
            snapshot_is_gone: false,
        }
    }

    #[test]
    fn the_last_word_of_a_copy_holds_until_nobody_listens_to_it() {
        let waits = SourceWaits::default();
        let [one, two] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let (first, second) = (waits.listen(one), waits.listen(two));
        first.hear(&status(Some("waits for a place")));
        second.hear(&status(Some("waits for another")));
        first.hear(&status(Some("waits for a better place")));
        let all = waits.all();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [one, two]);
        assert_eq!(all[&one].reason, "waits for a better place");
        let keys: Vec<_> = all[&one].disks.iter().map(DiskKey::as_str).collect();
        assert_eq!(keys, ["b"], "the other disk is being read");
        first.hear(&status(None));
        assert_eq!(waits.all().keys().copied().collect::<Vec<_>>(), [two]);
        drop(second);
        assert!(waits.all().is_empty());
    }
}
