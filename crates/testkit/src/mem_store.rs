//! The catalogue in memory: units of work on a snapshot, checked again when they commit.
//!
//! A unit sees the catalogue as it was at its first statement. Its commit repeats every write on the catalogue as it
//! is then, so uniqueness, versions and references are judged as a database would judge them; a VM that was locked
//! and has changed since is a conflict. Nothing ever waits, so two units can be interleaved by hand in one task.

mod access;
mod backups;
#[cfg(test)]
mod contract;
mod garbled;
mod jobs;
mod owed;
mod rows;
mod vms;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use hub_domain::ids::{VmContextId, VmDiskId};
use hub_ports::{Catalogue, Store, StoreError, UnitOfWork};
use parking_lot::Mutex;

use crate::Steps;
use rows::Rows;

/// The catalogue in memory; secrets are kept as they are.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    shared: Arc<Shared>,
    steps: Steps,
}

#[derive(Debug, Default)]
struct Shared {
    rows: Mutex<Arc<Rows>>,
    last_disk_id: AtomicI64,
    /// Tables and keys of rows that cannot be read.
    garbled: Mutex<BTreeSet<(String, String)>>,
}

impl MemStore {
    /// An empty catalogue whose calls are counted.
    pub fn with_steps(steps: Steps) -> Self {
        Self { shared: Arc::default(), steps }
    }

    fn session(&self) -> Session {
        Session {
            shared: Arc::clone(&self.shared),
            steps: self.steps.clone(),
            snapshot: None,
            writes: Vec::new(),
            locked: BTreeSet::new(),
            refused: false,
        }
    }

    async fn pass(&self, name: &str) -> Result<(), StoreError> {
        self.steps.pass(name).await.map_err(|_| broken())
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable("the test took the database away".into())
}

#[async_trait]
impl Store for MemStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        self.pass("store.begin").await?;
        Ok(Box::new(self.session()))
    }

    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError> {
        self.pass("store.view").await?;
        Ok(Box::new(self.session()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.pass("store.ping").await
    }

    fn unreadable(&self) -> usize {
        self.shared.garbled.lock().len()
    }
}

/// One write, repeatable.
type Write = Box<dyn Fn(&mut Rows) -> Result<(), StoreError> + Send + Sync>;

/// A view, or a unit of work: only the unit's trait lets a caller write.
struct Session {
    shared: Arc<Shared>,
    steps: Steps,
    /// The catalogue at the first statement, and the same with this unit's writes.
    snapshot: Option<(Arc<Rows>, Arc<Rows>)>,
    writes: Vec<Write>,
    locked: BTreeSet<VmContextId>,
    /// Whether a write was refused: such a unit cannot be committed any more.
    refused: bool,
}

impl Session {
    fn snapshot(&mut self) -> &mut (Arc<Rows>, Arc<Rows>) {
        let shared = &self.shared;
        self.snapshot.get_or_insert_with(|| {
            let now = Arc::clone(&shared.rows.lock());
            (Arc::clone(&now), now)
        })
    }

    /// The catalogue as this session sees it.
    fn rows(&mut self) -> &Rows {
        &self.snapshot().1
    }

    /// Writes now to what this unit sees, and again at commit; a refused write spoils the unit.
    fn write(
        &mut self,
        write: impl Fn(&mut Rows) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        let (_, local) = self.snapshot();
        let mut next = Rows::clone(local);
        let done = write(&mut next);
        if done.is_err() {
            self.refused = true;
            return done;
        }
        *local = Arc::new(next);
        self.writes.push(Box::new(write));
        Ok(())
    }

    /// A number that no disk row ever had: like a database's sequence, it is not undone.
    fn next_disk_id(&self) -> VmDiskId {
        VmDiskId::from_raw(self.shared.last_disk_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn commit_now(&mut self) -> Result<(), StoreError> {
        if self.refused {
            return Err(StoreError::Internal("a write of this unit was refused".into()));
        }
        if self.writes.is_empty() {
            return Ok(());
        }
        let Some((base, _)) = self.snapshot.take() else {
            return Ok(());
        };
        let mut shared = self.shared.rows.lock();
        for vm in &self.locked {
            if shared.version_of(*vm) != base.version_of(*vm) {
                return Err(StoreError::Conflict);
            }
        }
        let mut next = Rows::clone(&shared);
        for write in &self.writes {
            write(&mut next)?;
        }
        for vm in &self.locked {
            next.touch(*vm);
        }
        *shared = Arc::new(next);
        Ok(())
    }
}

/// Up to `limit` values with a key after `after` that fit, in the order of their keys.
fn page<K: Ord + Copy + ToString, V: Clone>(
    rows: &BTreeMap<K, V>,
    after: Option<&str>,
    limit: u32,
    fits: impl Fn(&V) -> bool,
) -> Vec<V> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_after = |id: &K| after.is_none_or(|after| id.to_string().as_str() > after);
    rows.iter()
        .filter(|(id, _)| is_after(id))
        .map(|(_, value)| value)
        .filter(|value| fits(value))
        .take(limit)
        .cloned()
        .collect()
}

#[async_trait]
impl UnitOfWork for Session {
    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let steps = self.steps.clone();
        steps.pass("store.commit").await.map_err(|_| broken())?;
        self.commit_now()?;
        // The unit is done, and an error here is an answer that was lost on its way: a database may lie so.
        steps.pass("store.committed").await.map_err(|_| broken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[tokio::test]
    async fn of_two_units_that_locked_one_vm_the_second_conflicts() {
        let store = MemStore::default();
        let vm = fixtures::vm_context(1, fixtures::vm_facts("pgtest1", "vm-1"), None);
        let mut work = store.begin().await.unwrap();
        work.insert_vms(std::slice::from_ref(&vm)).await.unwrap();
        work.commit().await.unwrap();
        let mut first = store.begin().await.unwrap();
        let mut second = store.begin().await.unwrap();
        first.lock_vm(vm.id).await.unwrap();
        second.lock_vm(vm.id).await.unwrap();
        first.update_vm(&vm).await.unwrap();
        second.update_vm(&vm).await.unwrap();
        first.commit().await.unwrap();
        assert!(matches!(second.commit().await, Err(StoreError::Conflict)));
    }

    #[tokio::test]
    async fn a_dropped_unit_leaves_nothing_behind() {
        let store = MemStore::default();
        let vm = fixtures::vm_context(1, fixtures::vm_facts("pgtest1", "vm-1"), None);
        let mut work = store.begin().await.unwrap();
        work.insert_vms(std::slice::from_ref(&vm)).await.unwrap();
        assert!(work.vm(vm.id).await.unwrap().is_some());
        drop(work);
        assert_eq!(store.view().await.unwrap().vm(vm.id).await.unwrap(), None);
    }
}
