//! Owed clean-ups: written down before a copy is ordered, asked for until a VMA has said that nothing is left.
//!
//! A hub that dies between the record and the order owes nothing, and is told so; one that dies at any later moment
//! finds the record at its next start (promise P3).

mod asking;
mod rounds;
mod striking;

pub use striking::{StrikeOffError, StruckOff, VmaRecord};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::owed::{CleanupOutcome, OwedCleanup};
use hub_domain::time::Timestamp;
use hub_domain::vm::VmContext;
use rounds::Rounds;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::readable;
use crate::{Clock, SourceError, SourceNode, Store, StoreError, retry_conflicts, told};

/// How clean-ups are asked for.
#[derive(Clone, Copy, Debug)]
pub struct OwedOptions {
    /// From the beginning of a round to that of the next.
    pub pause: Duration,
    /// Sources, that is vCenters and hosts, that are asked at a time; the clean-ups of one are asked for one after the other.
    pub sources_at_once: usize,
    /// What has been owed for longer is warned of.
    pub alarm_after: Duration,
    /// How long until it is warned of again.
    pub remind_after: Duration,
    /// How long the end of a copy may wait for its clean-up, and how often it looks.
    pub end: (Duration, Duration),
    /// How long a copy through a stand-in may wait for what others have left at its VM.
    pub before: Duration,
    /// Most records of one round.
    pub most: u32,
}

impl Default for OwedOptions {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(60),
            sources_at_once: 8,
            alarm_after: Duration::from_secs(6 * 3600),
            remind_after: Duration::from_secs(3600),
            end: (Duration::from_secs(5), Duration::from_millis(300)),
            before: Duration::from_secs(120),
            most: 10_000,
        }
    }
}

/// Asks VMAs for what is owed; cloning gives another handle to the same.
#[derive(Clone)]
pub struct OwedCleanups {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Reaches the VMAs.
    pub source: Arc<dyn SourceNode>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// How it works.
    pub options: OwedOptions,
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwedRound {
    /// Clean-ups that are done with.
    pub settled: usize,
    /// Clean-ups that are still owed, those of jobs at work left out.
    pub owed: usize,
    /// Everything that has been owed for longer than the alarm allows; a copy at work owes its snapshot, too.
    pub overdue: Vec<OwedCleanup>,
}

impl OwedCleanups {
    /// Asks in rounds, the first at once, until it is told to stop.
    ///
    /// What was answered in vain waits longer each time ([`pause_after`](hub_domain::owed::pause_after)), until something
    /// has changed that it hangs on, or a VMA is back; a source that takes longer than a round holds up no other.
    pub async fn run(&self, stop: CancellationToken) {
        let mut rounds = Rounds::new(&self.options);
        let mut warned = BTreeMap::new();
        loop {
            let next = Instant::now() + self.options.pause;
            match stop.run_until_cancelled(self.look(&mut rounds, next)).await {
                None => return,
                Some(Ok(overdue)) => self.warn(&overdue, &mut warned),
                Some(Err(error)) => {
                    tracing::warn!(error = %told(&error), "owed clean-ups could not be looked at");
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Asks once for everything that is owed by jobs which are over, whatever was answered before. Of what hangs on a VMA
    /// that does not answer, or does not reach its source, one is asked for and the others are left to the next round.
    /// Dropping the future leaves records as they are.
    pub async fn round(&self) -> Result<OwedRound, StoreError> {
        let mut rounds = Rounds::new(&self.options);
        rounds.begin(self).await?;
        let (settled, owed) = rounds.ended().await?;
        Ok(OwedRound { settled, owed, overdue: self.overdue().await? })
    }

    /// Begins a round and waits for it, but not longer than until the next; everything that is overdue then.
    async fn look(
        &self,
        rounds: &mut Rounds,
        next: Instant,
    ) -> Result<Vec<OwedCleanup>, StoreError> {
        rounds.begin(self).await?;
        if let Ok(Err(error)) = tokio::time::timeout_at(next, rounds.ended()).await {
            tracing::warn!(error = %told(&error), "some owed clean-ups could not be looked at");
        }
        self.overdue().await
    }

    async fn overdue(&self) -> Result<Vec<OwedCleanup>, StoreError> {
        let all = self.store.view().await?.owed_cleanups(self.options.most).await?;
        let mut all = readable(all);
        all.retain(|it| it.age(self.clock.now()) >= self.options.alarm_after);
        Ok(all)
    }

    /// Removes what other VMAs have left at a VM through the one that copies in their place, which would be refused because
    /// of it; what cannot be removed by then stays owed, and the copy meets it.
    ///
    /// May be dropped at any await.
    pub async fn before_copy(&self, node: &VmaNode, vm: &VmContext) {
        if !node.takes_snapshots() || vm.vma_node.is_none_or(|own| own == node.id) {
            return;
        }
        match tokio::time::timeout(self.options.before, self.settle_of_others(node, vm.id)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::warn!(
                error = %told(&error), vm.name = %vm.facts.name, "owed snapshots of a VM could not be looked at"
            ),
            Err(_) => tracing::info!(
                vm.name = %vm.facts.name, "the removal of an owed snapshot takes longer than its VM's next copy waits"
            ),
        }
    }

    /// Settles what a copy owes after it has ended, within seconds; what is not settled by then stays owed, for the
    /// next round. It answers nothing, because a run has to end whatever its snapshot does.
    ///
    /// The VMA is believed where its last word is that the snapshot is gone; else it is asked to look.
    pub async fn after_copy(&self, node: &VmaNode, copy: &str) {
        let (patience, pause) = self.options.end;
        match tokio::time::timeout(patience, self.settle_ended(node, copy, pause)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::warn!(
                error = %told(&error), snapshot = copy, "a snapshot stays recorded as owed"
            ),
            Err(_) => tracing::info!(snapshot = copy, "the removal of a snapshot takes longer"),
        }
    }

    async fn settle_ended(
        &self,
        node: &VmaNode,
        copy: &str,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let Some(owed) = self.store.view().await?.owed_cleanup(copy).await? else {
            return Ok(());
        };
        let is_gone = loop {
            match self.source.copy_status(node, copy).await {
                // Its disks have ended before its snapshot is removed.
                Ok(status) if !status.phase.is_terminal() => tokio::time::sleep(pause).await,
                Ok(status) => break status.snapshot_is_gone,
                Err(_) => break false,
            }
        };
        let asked = if is_gone { Ok(CleanupOutcome::Removed) } else { self.ask(&owed).await? };
        self.take_down(owed, asked).await.map(drop)
    }

    /// Strikes off what is settled; answers what is still owed otherwise, with the try noted.
    async fn take_down(
        &self,
        owed: OwedCleanup,
        asked: Result<CleanupOutcome, SourceError>,
    ) -> Result<Option<OwedCleanup>, StoreError> {
        let fault = match asked {
            Ok(CleanupOutcome::Removed | CleanupOutcome::None) => None,
            Ok(CleanupOutcome::Failed(fault)) => Some(fault),
            Err(error) => Some(error.to_fault()),
        };
        let Some(fault) = fault else {
            retry_conflicts(|| async {
                let mut work = self.store.begin().await?;
                work.strike_off(&owed).await?;
                work.commit().await
            })
            .await?;
            return Ok(None);
        };
        let owed = owed.in_vain(fault, self.clock.now());
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            work.note_try(&owed).await?;
            work.commit().await
        })
        .await?;
        Ok(Some(owed))
    }

    fn warn(&self, overdue: &[OwedCleanup], warned: &mut BTreeMap<String, Timestamp>) {
        let now = self.clock.now();
        for owed in due(overdue, warned, now, self.options.remind_after) {
            let fault = owed.fault.as_ref();
            tracing::warn!(
                vm.name = %owed.vm_name, vm.id = %owed.vmware_vm_id, snapshot = %owed.copy,
                age_seconds = owed.age(now).as_secs(), tries = owed.tries,
                code = fault.map(|fault| fault.code.as_str()),
                detail = fault.map(|fault| fault.detail.as_str()),
                "a snapshot of this product has been at its source for long; see the page of the code, or remove it by hand where no copy needs it"
            );
        }
    }
}

/// What is said where a row that cannot be read stands in the way of one owed clean-up.
const UNTOLD: &str =
    "an owed snapshot is not asked for while a row of the catalogue cannot be read";

/// What of the overdue has to be warned of now: what is new, and what was warned of long ago.
fn due<'a>(
    overdue: &'a [OwedCleanup],
    warned: &mut BTreeMap<String, Timestamp>,
    now: Timestamp,
    remind_after: Duration,
) -> Vec<&'a OwedCleanup> {
    warned.retain(|copy, _| overdue.iter().any(|owed| owed.copy == *copy));
    let since = |at: &Timestamp| (now - *at).to_std().unwrap_or_default();
    let is_due =
        |owed: &&OwedCleanup| warned.get(&owed.copy).is_none_or(|at| since(at) >= remind_after);
    let due: Vec<&OwedCleanup> = overdue.iter().filter(is_due).collect();
    warned.extend(due.iter().map(|owed| (owed.copy.clone(), now)));
    due
}

/// Writes down that a copy may leave a snapshot; it has to be durable before the copy is ordered.
pub async fn owe(store: &dyn Store, owed: &OwedCleanup) -> Result<(), StoreError> {
    let mut work = store.begin().await?;
    work.owe(owed).await?;
    work.commit().await
}

#[cfg(test)]
mod tests {
    use hub_domain::ids::{BackupRunId, VmContextId, VmaNodeId};
    use hub_domain::owed::OwedBy;

    use super::*;

    fn owed(copy: &str) -> OwedCleanup {
        let nil = "00000000-0000-0000-0000-000000000000";
        let (run, vm, vma_node): (BackupRunId, VmContextId, VmaNodeId) =
            (nil.parse().unwrap(), nil.parse().unwrap(), nil.parse().unwrap());
        OwedCleanup {
            copy: copy.to_owned(),
            job: OwedBy::Backup(run),
            vm,
            vm_name: "vm".to_owned(),
            vmware_vm_id: "vm-1".to_owned(),
            source: "vc-1".to_owned(),
            vma_node,
            credential: None,
            since: Timestamp::UNIX_EPOCH,
            ordered_at: Timestamp::UNIX_EPOCH,
            tries: 0,
            tried_at: None,
            fault: None,
        }
    }

    #[test]
    fn each_alarm_is_given_once_and_again_after_a_while() {
        let hour = Duration::from_secs(3600);
        let at = |minutes: u64| Timestamp::UNIX_EPOCH + Duration::from_secs(60 * minutes);
        let (one, both) = ([owed("a")], [owed("a"), owed("b")]);
        let mut warned = BTreeMap::new();
        let mut names = |overdue: &[OwedCleanup], now| -> Vec<String> {
            due(overdue, &mut warned, now, hour).into_iter().map(|it| it.copy.clone()).collect()
        };
        assert_eq!(names(&one, at(0)), ["a"]);
        assert_eq!(names(&both, at(30)), ["b"]);
        assert!(names(&both, at(59)).is_empty());
        assert_eq!(names(&both, at(60)), ["a"]);
        assert_eq!(names(&both, at(90)), ["b"]);
        // What was gone and is back is new.
        assert!(names(&[], at(91)).is_empty());
        assert_eq!(names(&one, at(92)), ["a"]);
    }
}
