//! How many disks may be read from one host at a time, over all jobs.
//!
//! A host has memory for a few transfers only, and refuses the next one in the middle of somebody's copy.

use std::collections::HashMap;
use std::sync::Arc;

use hub_vsphere::{MoRef, Vm};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::source::SourceError;

/// Places for readers, so many at each host; hosts do not wait for each other.
pub(super) struct HostBudget {
    per_host: usize,
    hosts: Mutex<HashMap<Host, Arc<Semaphore>>>,
    waiting: Arc<Mutex<Vec<Waiting>>>,
}

/// A host; VMs whose host is not told count as being on one of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Host(Option<MoRef>);

/// A reader's place; it is free again when this is dropped.
pub(super) struct Place {
    pub(super) host: Host,
    /// Whether it was free at once.
    pub(super) at_once: bool,
    _permit: OwnedSemaphorePermit,
}

/// Who waits, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    job_id: String,
    host: Host,
}

impl Host {
    /// The host that a VM runs on.
    pub(super) fn of(vm: &Vm) -> Self {
        Self(vm.host.clone())
    }
}

impl HostBudget {
    pub(super) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), hosts: Mutex::default(), waiting: Arc::default() }
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
            return Ok(Place { host, at_once: true, _permit: permit });
        }
        let waiting = Waiting { job_id: job_id.to_owned(), host: host.clone() };
        let _said = Said::new(&self.waiting, waiting);
        let permit = places.acquire_owned().await;
        let permit =
            permit.map_err(|_| SourceError::Internal("the source is closed".to_owned()))?;
        Ok(Place { host, at_once: false, _permit: permit })
    }

    /// What a job waits for, in a sentence.
    pub(super) fn waits_for(&self, job_id: &str) -> Option<String> {
        let waiting = self.waiting.lock();
        let Host(host) = &waiting.iter().find(|it| it.job_id == job_id)?.host;
        let host = host.as_ref().map_or("that is not told", |it| &it.value);
        Some(format!(
            "waits for a place at host {host}: {} of its disks are being read, which is as many as source.readers_per_host allows",
            self.per_host
        ))
    }
}

/// Says that somebody waits, for as long as it is so.
struct Said {
    list: Arc<Mutex<Vec<Waiting>>>,
    waiting: Waiting,
}

impl Said {
    fn new(list: &Arc<Mutex<Vec<Waiting>>>, waiting: Waiting) -> Self {
        list.lock().push(waiting.clone());
        Self { list: list.clone(), waiting }
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        let mut list = self.list.lock();
        if let Some(at) = list.iter().position(|it| *it == self.waiting) {
            list.swap_remove(at);
        }
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
        let budget = HostBudget::new(2);
        let first = budget.place(&host("a"), "one").await.unwrap();
        let _second = budget.place(&host("a"), "one").await.unwrap();
        let host_a = host("a");
        let third = budget.place(&host_a, "two");
        tokio::pin!(third);
        assert!(futures_now(third.as_mut()).await.is_none());
        let told = budget.waits_for("two").unwrap();
        assert!(told.contains("host a: 2 of its disks"), "{told}");
        assert_eq!(budget.waits_for("one"), None);
        assert!(budget.place(&host("b"), "three").await.unwrap().at_once);
        drop(first);
        assert!(!third.await.unwrap().at_once);
        assert_eq!(budget.waits_for("two"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_no_place() {
        let budget = HostBudget::new(1);
        let first = budget.place(&host("a"), "one").await.unwrap();
        let host_a = host("a");
        let mut second = Box::pin(budget.place(&host_a, "two"));
        assert!(futures_now(second.as_mut()).await.is_none());
        drop(second);
        assert_eq!(budget.waits_for("two"), None);
        drop(first);
        assert!(budget.place(&host("a"), "three").await.unwrap().at_once);
    }

    /// What a future has come to, if it has.
    async fn futures_now<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(std::time::Duration::from_millis(1), future).await.ok()
    }
}
