//! How many disks may be read from one host at a time, and how many snapshots removed, over all jobs.
//!
//! A host has memory for a few transfers only, and refuses the next one in the middle of somebody's copy. Deltas that
//! are merged read and write a datastore as much as a copy does, and longer, while their VM waits for its own disks.

use std::collections::HashMap;
use std::sync::Arc;

use hub_vsphere::{MoRef, Vm};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::held::Reading;
use super::waits::Waits;
use crate::source::SourceError;

/// Places for readers, or for removals, so many at each host; hosts do not wait for each other.
pub(super) struct HostBudget {
    work: Work,
    per_host: usize,
    hosts: Mutex<HashMap<Host, Arc<Semaphore>>>,
    waits: Waits,
}

/// What the places are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Reading,
    Removing,
}

/// A host; VMs whose host is not told count as being on one of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Host(Option<MoRef>);

/// A place at a host; it is free again when this is dropped.
pub(super) struct Place {
    pub(super) host: Host,
    /// Whether it was free at once.
    pub(super) at_once: bool,
    /// Keeps the snapshot that is read from here.
    pub(super) reading: Option<Reading>,
    _permit: OwnedSemaphorePermit,
}

impl Host {
    /// The host that a VM runs on.
    pub(super) fn of(vm: &Vm) -> Self {
        Self(vm.host.clone())
    }
}

impl HostBudget {
    /// Places for disks that are read.
    pub(super) fn of_readers(per_host: usize, waits: Waits) -> Self {
        Self::new(Work::Reading, per_host, waits)
    }

    /// Places for snapshots that are removed.
    pub(super) fn of_removals(per_host: usize, waits: Waits) -> Self {
        Self::new(Work::Removing, per_host, waits)
    }

    fn new(work: Work, per_host: usize, waits: Waits) -> Self {
        Self { work, per_host: per_host.max(1), hosts: Mutex::default(), waits }
    }

    /// Waits until a place is free and takes none; whether one was free at once.
    pub(super) async fn pass(&self, host: &Host, job_id: &str) -> Result<bool, SourceError> {
        self.place(host, job_id).await.map(|it| it.at_once)
    }

    /// Waits for a place at a host, first come, first served.
    pub(super) async fn place(&self, host: &Host, job_id: &str) -> Result<Place, SourceError> {
        let places = {
            let mut hosts = self.hosts.lock();
            let new = || Arc::new(Semaphore::new(self.per_host));
            hosts.entry(host.clone()).or_insert_with(new).clone()
        };
        let host = host.clone();
        if let Ok(permit) = places.clone().try_acquire_owned() {
            return Ok(Place { host, at_once: true, reading: None, _permit: permit });
        }
        let _waiting = self.waits.say(job_id, self.sentence(&host));
        let permit = places.acquire_owned().await;
        let permit =
            permit.map_err(|_| SourceError::Internal("the source is closed".to_owned()))?;
        Ok(Place { host, at_once: false, reading: None, _permit: permit })
    }

    fn sentence(&self, host: &Host) -> String {
        let host = host.0.as_ref().map_or("that is not told", |it| &it.value);
        let (many, limit) = match self.work {
            Work::Reading => ("disks are being read", "readers_per_host"),
            Work::Removing => ("snapshots are being removed", "removals_per_host"),
        };
        let per_host = self.per_host;
        format!(
            "waits for a place at host {host}: {per_host} of its {many}, which is as many as source.{limit} allows"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str) -> Host {
        Host(Some(MoRef::new("HostSystem", id)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_has_so_many_places_and_another_host_its_own() {
        let waits = Waits::default();
        let budget = HostBudget::of_readers(2, waits.clone());
        let first = budget.place(&host("a"), "one").await.unwrap();
        let _second = budget.place(&host("a"), "one").await.unwrap();
        let host_a = host("a");
        let third = budget.place(&host_a, "two");
        tokio::pin!(third);
        assert!(futures_now(third.as_mut()).await.is_none());
        let told = waits.of("two").unwrap();
        assert!(told.contains("host a: 2 of its disks"), "{told}");
        assert_eq!(waits.of("one"), None);
        assert!(budget.place(&host("b"), "three").await.unwrap().at_once);
        drop(first);
        assert!(!third.await.unwrap().at_once);
        assert_eq!(waits.of("two"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_no_place() {
        let waits = Waits::default();
        let budget = HostBudget::of_readers(1, waits.clone());
        let first = budget.place(&host("a"), "one").await.unwrap();
        let host_a = host("a");
        let mut second = Box::pin(budget.place(&host_a, "two"));
        assert!(futures_now(second.as_mut()).await.is_none());
        drop(second);
        assert_eq!(waits.of("two"), None);
        drop(first);
        assert!(budget.place(&host("a"), "three").await.unwrap().at_once);
    }

    /// What a future has come to, if it has.
    async fn futures_now<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(std::time::Duration::from_millis(1), future).await.ok()
    }
}
