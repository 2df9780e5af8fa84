//! A snapshot of ours: written down, taken, held, removed, struck off; whatever happens in between.

use std::sync::Arc;
use std::time::Duration;

use hub_vma_api::SnapshotReport;
use hub_vsphere::{Client, MoRef, VsphereError};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, oneshot};

use super::fault::of_call;
use super::identity::other_source;
use super::ledger::{LedgerError, Owed};
use super::turns::Turn;
use super::{Shared, listing, session};
use crate::source::SourceError;

/// The longest that a removal waits for whoever reads the snapshot; a reader that was told to end is killed before.
const FAREWELL: Duration = Duration::from_secs(30);

/// Somebody reads a disk of a snapshot, until this is dropped.
pub(super) struct Reading {
    _guard: OwnedRwLockReadGuard<()>,
}

/// A snapshot that exists; dropping this removes it in the background.
pub(super) struct Held {
    shared: Arc<Shared>,
    client: Arc<Client>,
    owed: Owed,
    snapshot: MoRef,
    quiesced: bool,
    not_quiesced: Option<String>,
    released: bool,
    /// Locked by everybody who reads it.
    readers: Arc<RwLock<()>>,
    /// The VM is the next job's when this snapshot is gone, or left to be removed with what is owed.
    turn: Option<Turn>,
}

impl Held {
    /// Takes a snapshot that is owed from before it exists.
    ///
    /// The call goes on when nobody waits for it any more, because a snapshot that is half made cannot be removed:
    /// it is removed when it is there.
    pub(super) async fn take(
        shared: &Arc<Shared>,
        client: &Arc<Client>,
        owed: Owed,
        quiesce: bool,
        turn: Turn,
    ) -> Result<Self, SourceError> {
        // Who gives up waiting from here on cannot know whether it is taken.
        shared.ledger.announce(&owed);
        let (send, taken) = oneshot::channel();
        let (own, client) = (shared.clone(), client.clone());
        shared.tasks.spawn(async move {
            // Writing it down is part of it: a record that nobody follows up would be held for ever.
            // A value that nobody takes is dropped, and what is dropped is removed.
            drop(send.send(Self::make(own, client, owed, quiesce, turn).await));
        });
        taken
            .await
            .unwrap_or_else(|_| Err(SourceError::Internal("a snapshot was not made".to_owned())))
    }

    async fn make(
        shared: Arc<Shared>,
        client: Arc<Client>,
        owed: Owed,
        quiesce: bool,
        turn: Turn,
    ) -> Result<Self, SourceError> {
        shared.owe_before_asking(&owed).await?;
        let vm = MoRef::vm(&owed.vm);
        let about = "taken for a backup, and removed with it";
        let made = if quiesce {
            client.create_quiesced_snapshot(&vm, &owed.name, about).await
        } else {
            client.create_snapshot(&vm, &owed.name, about, false).await.map(|it| (it, None))
        };
        let (snapshot, failed) = match made {
            Ok(made) => made,
            Err(error) => {
                if may_be_taken(&error) {
                    shared.doubt(&owed).await;
                } else if let Err(error) = shared.owe(&owed).await {
                    let said = "that no snapshot will come is known only until this program ends";
                    tracing::warn!(job.id = owed.job_id, error = %error, "{said}");
                }
                shared.settle_or_chase(&client, &owed).await;
                return Err(of_call(&error));
            }
        };
        let not_quiesced = failed.map(|it| it.0);
        if let Some(reason) = &not_quiesced {
            tracing::warn!(
                vm.id = owed.vm_id,
                reason,
                "the guest did not come to rest for its snapshot"
            );
        }
        let quiesced = quiesce && not_quiesced.is_none();
        let held = Self {
            shared: shared.clone(),
            client,
            owed: owed.clone(),
            snapshot,
            quiesced,
            not_quiesced,
            released: false,
            readers: Arc::default(),
            turn: Some(turn),
        };
        // It has come, so that a later process that finds none need not look on; and a disk that is full must not hold
        // on to the snapshot.
        shared.owe(&owed).await?;
        Ok(held)
    }

    /// The snapshot's reference.
    pub(super) fn snapshot(&self) -> &MoRef {
        &self.snapshot
    }

    /// What is told of it while it is held.
    pub(super) fn report(&self) -> SnapshotReport {
        SnapshotReport {
            state: "present".to_owned(),
            id: Some(self.snapshot.value.clone()),
            quiesced: Some(self.quiesced),
            quiesce_reason: self.not_quiesced.clone(),
            reason: None,
        }
    }

    /// Somebody begins to read a disk of it, and keeps it until that has ended.
    pub(super) async fn reading(&self) -> Reading {
        Reading { _guard: self.readers.clone().read_owned().await }
    }

    /// Removes it when nobody reads it any more, and waits until it is gone.
    pub(super) async fn remove(mut self) -> Result<(), SourceError> {
        is_unread(&self.readers, &self.owed).await;
        let settled = self.shared.settle(&self.client, &self.owed).await;
        if settled.is_ok() {
            self.released = true;
        }
        settled.map(drop)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (shared, client, owed) = (self.shared.clone(), self.client.clone(), self.owed.clone());
        let (turn, readers) = (self.turn.take(), self.readers.clone());
        self.shared.tasks.spawn(async move {
            is_unread(&readers, &owed).await;
            shared.settle_or_chase(&client, &owed).await;
            drop(turn);
            session::leave(client).await;
        });
    }
}

/// Waits until nobody reads a snapshot: a host that has one of its disks open cannot merge that, and may say that it has.
async fn is_unread(readers: &RwLock<()>, owed: &Owed) {
    if tokio::time::timeout(FAREWELL, readers.write()).await.is_err() {
        tracing::warn!(
            job.id = owed.job_id,
            snapshot = owed.name,
            "somebody who reads a snapshot does not end, and it is removed all the same"
        );
    }
}

/// Whether a snapshot may be there, or come yet, though asking for it failed.
///
/// Only a server that refuses, or a task that has failed at its host, is certain. A task that is not known any more,
/// after a restart of the server, may go on at the host; so may one of which only the answers are lost.
fn may_be_taken(error: &VsphereError) -> bool {
    match error {
        VsphereError::Fault { method, fault } => {
            *method != "CreateSnapshot_Task" || fault.is_of_way_to_host()
        }
        VsphereError::NotPermitted { .. } | VsphereError::Setup(_) => false,
        VsphereError::Unreachable { .. }
        | VsphereError::Untrusted { .. }
        | VsphereError::LoginRefused { .. }
        | VsphereError::NotFound(_)
        | VsphereError::SessionLost(_)
        | VsphereError::OtherServer { .. }
        | VsphereError::Unavailable { .. }
        | VsphereError::TimedOut { .. }
        | VsphereError::TaskStuck { .. }
        | VsphereError::Garbled { .. }
        | _ => true,
    }
}

/// How a debt was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// A snapshot was there and is gone.
    Removed,
    /// There was none.
    Nothing,
}

impl Shared {
    /// Writes down what is owed, durably.
    pub(super) async fn owe(self: &Arc<Self>, owed: &Owed) -> Result<(), SourceError> {
        let (shared, owed) = (self.clone(), owed.clone());
        written(tokio::task::spawn_blocking(move || shared.ledger.owe(&owed)).await)
    }

    /// The same for one whose snapshot is about to be asked for.
    async fn owe_before_asking(self: &Arc<Self>, owed: &Owed) -> Result<(), SourceError> {
        let (time, shared, owed) = (self.longest_task(), self.clone(), owed.clone());
        let noted = move || shared.ledger.owe_before_asking(&owed, time);
        written(tokio::task::spawn_blocking(noted).await)
    }

    /// For how long a request for a snapshot may be at work, whoever hears of it.
    fn longest_task(&self) -> Duration {
        self.options.client.task.max(self.options.client.call)
    }

    /// Writes down that a snapshot may come yet, for as long as a task may take.
    async fn doubt(self: &Arc<Self>, owed: &Owed) {
        let (time, shared, job_id) = (self.longest_task(), self.clone(), owed.job_id.clone());
        let noted =
            tokio::task::spawn_blocking(move || shared.ledger.may_come_within(&job_id, time)).await;
        if let Err(error) = written(noted) {
            let said = "that a snapshot may come yet is known only until this program ends";
            tracing::warn!(job.id = owed.job_id, error = %error, "{said}");
        }
    }

    /// Removes every snapshot of exactly the owed name from its VM, and strikes the debt off.
    ///
    /// Where there is none the debt is struck off, too, unless one is being taken at this moment or may come yet.
    pub(super) async fn settle(
        self: &Arc<Self>,
        client: &Client,
        owed: &Owed,
    ) -> Result<Settled, SourceError> {
        let settled = self.remove_owed(client, owed).await?;
        if settled == Settled::Nothing && self.ledger.may_come(&owed.job_id) {
            let text = "what became of the request for a snapshot was not heard, so the snapshot may be taken yet; it stays on record and is looked for again until no task could still run, or until it is struck off";
            return Err(SourceError::CallFailed(text.to_owned()));
        }
        let (shared, job_id) = (self.clone(), owed.job_id.clone());
        written(tokio::task::spawn_blocking(move || shared.ledger.forget(&job_id)).await)?;
        Ok(settled)
    }

    /// The same; what fails stays owed.
    pub(super) async fn settle_or_owe(
        self: &Arc<Self>,
        client: &Client,
        owed: &Owed,
    ) -> Result<(), SourceError> {
        let settled = self.settle(client, owed).await;
        if let Err(error) = &settled {
            let (job, vm, snapshot) = (&owed.job_id, &owed.vm_id, &owed.name);
            let said = "a snapshot could not be removed and stays owed";
            // It is tried again and again, and one line is enough as long as the reason is the same.
            if self.ledger.is_news(job, &error.to_string()) {
                tracing::warn!(job.id = job, vm.id = vm, snapshot, error = %error, "{said}");
            } else {
                tracing::debug!(job.id = job, vm.id = vm, snapshot, error = %error, "{said}");
            }
            self.ledger.let_go(job);
        }
        settled.map(drop)
    }

    async fn remove_owed(&self, client: &Client, owed: &Owed) -> Result<Settled, SourceError> {
        let here = self.source(client);
        if owed.source != here {
            // The VM is not known here, and its snapshot would be taken for gone.
            return Err(other_source(&owed.name, &owed.source, &here));
        }
        let failed = |error: VsphereError| of_call(&error);
        let mut vms = vec![MoRef::vm(&owed.vm)];
        // A VM that was registered again has another reference, and its snapshots still.
        vms.extend(client.vms_of_instance(&owed.vm_id).await.map_err(failed)?);
        vms.dedup();
        let (mut settled, mut seen) = (Settled::Nothing, false);
        for moref in vms {
            // Asked before the list is read: one that is made in between is in the list.
            let taking = client.is_taking_snapshot(&moref).await.map_err(failed)?;
            let Some((vm, _place)) = self.to_be_removed(client, &moref, owed).await? else {
                continue;
            };
            // Another VM may have the reference by now, at a host that gives them out again.
            seen |= listing::id(&vm) == owed.vm_id;
            let all = vm.snapshots.iter().flat_map(hub_vsphere::SnapshotNode::all);
            for snapshot in all.filter(|it| it.name == owed.name) {
                client.remove_snapshot(&snapshot.moref).await.map_err(failed)?;
                settled = Settled::Removed;
            }
            if settled == Settled::Nothing && taking {
                let text = "a snapshot of the VM is being taken at this moment; it is looked for again later";
                return Err(SourceError::CallFailed(text.to_owned()));
            }
            let state = vm.connection_state.as_deref().filter(|it| *it != "connected");
            if let (Settled::Nothing, Some(state)) = (settled, state) {
                let reason = format!(
                    "it is {state}, so the server does not know which snapshots it has; they are looked for again later"
                );
                return Err(SourceError::BadVm { vm: vm.name, reason });
            }
        }
        if seen || settled == Settled::Removed || self.ledger.is_clean(&owed.job_id) {
            return Ok(settled);
        }
        // A VM that is unregistered keeps its snapshots among its files; one that is deleted looks the same from here.
        Err(SourceError::SnapshotVmMissing { vm: owed.vm_id.clone(), snapshot: owed.name.clone() })
    }

    /// Strikes a debt off unpaid; whether there was one.
    pub(super) async fn strike_off(self: &Arc<Self>, job_id: &str) -> Result<bool, SourceError> {
        if self.ledger.is_held(job_id) {
            return Err(SourceError::SnapshotInUse(job_id.to_owned()));
        }
        let left = self.ledger.left_over().into_iter().find(|it| it.job_id == job_id);
        let Some(owed) = left else { return Ok(false) };
        let (shared, job) = (self.clone(), owed.job_id.clone());
        written(tokio::task::spawn_blocking(move || shared.ledger.strike_off(&job)).await)?;
        tracing::info!(
            job.id = owed.job_id,
            vm.id = owed.vm_id,
            snapshot = owed.name,
            source = owed.source,
            "a snapshot was struck off the record by request; what is at its source was not touched"
        );
        Ok(true)
    }
}

/// What became of writing a record down.
pub(super) fn written(
    outcome: Result<Result<(), LedgerError>, tokio::task::JoinError>,
) -> Result<(), SourceError> {
    match outcome {
        Ok(written) => written.map_err(|error| SourceError::StateUnwritable(error.to_string())),
        Err(error) => Err(SourceError::Internal(error.to_string())),
    }
}
