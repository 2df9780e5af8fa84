//! One job at a time of each VM, from before its snapshot is taken until that is gone.
//!
//! Two snapshots of ours would stand on each other: the disks of the later job would be deltas, which HTTPS does not
//! read, and whose changed areas nobody believes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::waits::Waits;
use crate::source::SourceError;

/// What a job waits for here.
const SENTENCE: &str = "waits until another job of the VM has ended and its snapshot is removed: of one VM there is one snapshot at a time";

/// A turn at each VM; VMs do not wait for each other.
#[derive(Default)]
pub(super) struct VmTurns {
    vms: Arc<Mutex<HashMap<String, Line>>>,
}

/// The turn at a VM, and how many have it or want it.
struct Line {
    turn: Arc<Semaphore>,
    jobs: usize,
}

/// A job's turn at a VM; the next one's begins when this is dropped.
pub(super) struct Turn {
    // Given back before the line is left, so that nobody makes a second line beside this one.
    _permit: OwnedSemaphorePermit,
    _in_line: InLine,
}

/// A job that has a turn or waits for one.
struct InLine {
    vms: Arc<Mutex<HashMap<String, Line>>>,
    vm_id: String,
}

impl VmTurns {
    /// Waits for the turn at a VM, first come, first served; who gives up leaves the line.
    pub(super) async fn turn(
        &self,
        vm_id: &str,
        job_id: &str,
        waits: &Waits,
    ) -> Result<Turn, SourceError> {
        let turn = {
            let mut vms = self.vms.lock();
            let new = || Line { turn: Arc::new(Semaphore::new(1)), jobs: 0 };
            let line = vms.entry(vm_id.to_owned()).or_insert_with(new);
            line.jobs += 1;
            line.turn.clone()
        };
        let in_line = InLine { vms: self.vms.clone(), vm_id: vm_id.to_owned() };
        let permit = if let Ok(permit) = turn.clone().try_acquire_owned() {
            permit
        } else {
            let _waiting = waits.say(job_id, SENTENCE);
            let permit = turn.acquire_owned().await;
            permit.map_err(|_| SourceError::Internal("the source is closed".to_owned()))?
        };
        Ok(Turn { _permit: permit, _in_line: in_line })
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut vms = self.vms.lock();
        let Some(line) = vms.get_mut(&self.vm_id) else { return };
        line.jobs -= 1;
        if line.jobs == 0 {
            vms.remove(&self.vm_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a future has come to, if it has.
    async fn now<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(std::time::Duration::from_millis(1), future).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_of_a_vm_take_turns_in_the_order_they_came_and_other_vms_go_on() {
        let (turns, waits) = (VmTurns::default(), Waits::default());
        let first = turns.turn("a", "one", &waits).await.unwrap();
        let mut second = Box::pin(turns.turn("a", "two", &waits));
        let mut gone = Box::pin(turns.turn("a", "gone", &waits));
        let mut third = Box::pin(turns.turn("a", "three", &waits));
        for waiting in [&mut second, &mut gone, &mut third] {
            assert!(now(waiting.as_mut()).await.is_none());
        }
        assert_eq!((waits.of("one"), waits.of("three").as_deref()), (None, Some(SENTENCE)));
        drop(turns.turn("b", "other", &waits).await.unwrap());
        drop(gone);
        drop(first);
        let second = second.await.unwrap();
        assert!(now(third.as_mut()).await.is_none());
        assert_eq!(waits.of("two"), None);
        drop(second);
        drop(third.await.unwrap());
        assert!(turns.vms.lock().is_empty(), "nothing is remembered of VMs that nobody reads");
    }
}
