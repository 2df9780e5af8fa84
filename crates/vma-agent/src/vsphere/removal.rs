//! The place that a removal takes at its host: merging deltas loads a datastore for longer than a copy does.

use hub_vsphere::{Client, MoRef, SnapshotNode, Vm};

use super::Shared;
use super::fault::of_call;
use super::host_budget::{Host, Place};
use super::ledger::Owed;
use crate::source::SourceError;

impl Shared {
    /// A VM that may have the snapshot that is owed, if there is one: as it is when there is a place to remove it.
    ///
    /// One more removal beside many would only make all of them slower, and their VMs with them. The place is free again
    /// when it is dropped.
    pub(super) async fn to_be_removed(
        &self,
        client: &Client,
        vm: &MoRef,
        owed: &Owed,
    ) -> Result<Option<(Vm, Option<Place>)>, SourceError> {
        let mut at: Option<Place> = None;
        loop {
            let Some(now) = read(client, vm).await? else { return Ok(None) };
            let host = Host::of(&now);
            let has =
                now.snapshots.iter().flat_map(SnapshotNode::all).any(|it| it.name == owed.name);
            // Much may have changed while it waited: the host, and whether there is anything to remove.
            if !has || at.as_ref().is_some_and(|it| it.host == host) {
                return Ok(Some((now, at)));
            }
            drop(at.take());
            let place = self.removals.place(&host, &owed.job_id).await?;
            if place.at_once {
                return Ok(Some((now, Some(place))));
            }
            at = Some(place);
        }
    }
}

async fn read(client: &Client, vm: &MoRef) -> Result<Option<Vm>, SourceError> {
    let found = client.vm(vm).await.map_err(|error| of_call(&error))?;
    let unreadable = |it: hub_vsphere::Unreadable| SourceError::BadVm {
        vm: it.name.unwrap_or(it.moref.value),
        reason: it.reason,
    };
    found.transpose().map_err(unreadable)
}
