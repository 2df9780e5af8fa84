//! Replica images in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hub_domain::ids::VmDiskId;
use hub_domain::source::{NbdAddress, ParentTable, PreparedTarget};
use hub_ports::{PrepareReplica, ReplicaStorage, StorageError};
use parking_lot::Mutex;

use super::{Fault, broken, full};
use crate::Steps;

/// Bytes that a replica keeps from an earlier attempt.
const KEPT: u64 = 3 << 20;

/// Replicas as records.
#[derive(Debug, Default)]
pub struct MemReplicaStorage {
    state: Mutex<State>,
    steps: Steps,
}

#[derive(Debug, Default)]
struct State {
    replicas: BTreeMap<VmDiskId, Replica>,
    open: BTreeMap<String, String>,
    fault: Option<Fault>,
    exports: u64,
}

#[derive(Clone, Debug)]
struct Replica {
    path: String,
    root: Option<String>,
}

impl MemReplicaStorage {
    /// A storage whose calls are counted.
    pub fn with_steps(steps: Steps) -> Self {
        Self { state: Mutex::default(), steps }
    }

    /// Makes something go wrong, or mends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Targets that are still open for writing: a job that has ended must leave none.
    pub fn open_targets(&self) -> Vec<String> {
        self.state.lock().open.keys().cloned().collect()
    }

    /// How many replicas are complete.
    pub fn complete(&self) -> usize {
        self.state.lock().replicas.values().filter(|replica| replica.root.is_some()).count()
    }

    /// Forgets all open targets, as a restart of the hub does.
    pub fn restart(&self) {
        self.state.lock().open.clear();
    }
}

#[async_trait]
impl ReplicaStorage for MemReplicaStorage {
    async fn prepare_replica(
        &self,
        order: &PrepareReplica,
    ) -> Result<PreparedTarget, StorageError> {
        self.steps.pass("replica.prepare").await.map_err(|_| broken())?;
        let mut state = self.state.lock();
        if state.fault == Some(Fault::FullAtPrepare) {
            return Err(full());
        }
        state.exports += 1;
        let export = format!("replica-export-{}", state.exports);
        let path = format!("{}/{}.{}", order.vm, order.disk, order.format.word());
        let known = state
            .replicas
            .insert(order.disk, Replica { path: path.clone(), root: None })
            .and_then(|replica| replica.root);
        let was_open = state.open.len();
        if order.resume {
            state.open.retain(|_, open| *open != path);
        }
        let kept_bytes = (state.open.len() < was_open).then_some(KEPT);
        state.open.insert(export.clone(), path.clone());
        let address =
            |export| NbdAddress { host: "127.0.0.1".to_owned(), port: 10809, export, tls: None };
        let table = |root| ParentTable {
            address: address(format!("{export}-table")),
            capacity: order.capacity,
            root,
        };
        let kept = kept_bytes.map(|_| "root-of-what-is-kept".to_owned());
        let parent = kept.or(known.filter(|_| order.incremental)).map(table);
        let no_parent_reason = (order.incremental && parent.is_none())
            .then(|| "there is no complete replica of this disk yet".to_owned());
        Ok(PreparedTarget {
            kept_bytes,
            address: address(export.clone()),
            path,
            block_size: 1 << 20,
            parent,
            no_parent_reason,
        })
    }

    async fn seal_replica(
        &self,
        target: &PreparedTarget,
        source_root: &str,
    ) -> Result<String, StorageError> {
        self.steps.pass("replica.seal").await.map_err(|_| broken())?;
        let mut state = self.state.lock();
        if !state.open.contains_key(&target.address.export) {
            return Err(StorageError::UnknownTarget);
        }
        match state.fault {
            Some(Fault::FullAtSeal) => return Err(full()),
            Some(Fault::Mismatch) => {
                return Err(StorageError::ProofMismatch {
                    source_root: source_root.to_owned(),
                    stored_root: "something else".to_owned(),
                });
            }
            _ => (),
        }
        state.open.remove(&target.address.export);
        for replica in state.replicas.values_mut().filter(|it| it.path == target.path) {
            replica.root = Some(source_root.to_owned());
        }
        Ok(source_root.to_owned())
    }

    async fn release_replica(&self, target: &PreparedTarget) -> Result<(), StorageError> {
        // Undoing works even where the step before it was made to fail; only a kill stops it.
        let _ = self.steps.pass("replica.release").await;
        self.state.lock().open.remove(&target.address.export);
        Ok(())
    }
}
