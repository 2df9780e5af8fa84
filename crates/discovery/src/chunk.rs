//! Stores a batch of VMs with their disks in one unit of work, and writes nothing where nothing has changed.

use std::collections::BTreeSet;

use hub_domain::ids::VmContextId;
use hub_domain::inventory::SeenVm;
use hub_domain::vm::VmFacts;
use hub_ports::store::all_readable;
use hub_ports::{Catalogue, StoreError, UnitOfWork, retry_conflicts};

use crate::Discovery;
use crate::plan::{Change, Known, Link, Stored, VmPlan, Writes, plan_vm};

/// Told here, since the catalogue would refuse it as a conflict, which no repetition ends.
const KEY_TAKEN: StoreError = StoreError::Refused(
    "the source now gives the id of a managed VM to another one; remove the VM context that has it (its backups stay), \
     then add the VM again",
);

impl Discovery {
    /// Stores VMs of one source; the answers stand in the order of the VMs.
    pub(crate) async fn store_chunk(
        &self,
        vms: &[&SeenVm],
        link: Link,
    ) -> Result<Vec<Stored>, StoreError> {
        retry_conflicts(|| self.try_chunk(vms, link)).await
    }

    async fn try_chunk(&self, vms: &[&SeenVm], link: Link) -> Result<Vec<Stored>, StoreError> {
        let mut view = self.store.view().await?;
        let known = known(view.as_mut(), vms).await?;
        drop(view);
        let first = self.plan(vms, &known, link)?;
        let changed: Vec<&SeenVm> = vms
            .iter()
            .zip(&first)
            .filter(|(_, plan)| plan.stored().change != Change::Unchanged)
            .map(|(vm, _)| *vm)
            .collect();
        if changed.is_empty() {
            return Ok(first.iter().map(VmPlan::stored).collect());
        }
        let mut work = self.store.begin().await?;
        let held = lock(work.as_mut(), &first).await?;
        let known = self::known(work.as_mut(), &changed).await?;
        let second = self.plan(&changed, &known, link)?;
        if changing(&second).any(|id| !held.contains(&id)) {
            // One that came meanwhile is not held: whatever its jobs write now would be overwritten.
            return Err(StoreError::Conflict);
        }
        write(work.as_mut(), &Writes::of(&second), self.clock.now()).await?;
        work.commit().await?;
        let mut written = second.iter().map(VmPlan::stored);
        Ok(first
            .iter()
            .map(VmPlan::stored)
            .map(|stored| match stored.change {
                Change::Unchanged => stored,
                Change::Added | Change::Updated => written.next().unwrap_or(stored),
            })
            .collect())
    }

    fn plan(&self, vms: &[&SeenVm], known: &Known, link: Link) -> Result<Vec<VmPlan>, StoreError> {
        let at = self.clock.now();
        let plan = |vm: &&SeenVm| {
            let fresh = || VmContextId::from_uuid(self.ids.new_id());
            let plan = plan_vm(vm, known.get(&vm.facts), link, fresh, at);
            if known.is_another(&plan.vm) { Err(KEY_TAKEN) } else { Ok(plan) }
        };
        vms.iter().map(plan).collect()
    }
}

/// Locks the stored VMs that will change, in the order of their ids, so that two batches never wait for each other.
async fn lock(
    work: &mut dyn UnitOfWork,
    plans: &[VmPlan],
) -> Result<BTreeSet<VmContextId>, StoreError> {
    let ids: BTreeSet<VmContextId> = changing(plans).collect();
    for id in &ids {
        match work.lock_vm(*id).await {
            // It was deleted since it was read: the batch is planned anew.
            Err(StoreError::Missing(_)) => return Err(StoreError::Conflict),
            done => done?,
        }
    }
    Ok(ids)
}

/// The stored VMs that will change.
fn changing(plans: &[VmPlan]) -> impl Iterator<Item = VmContextId> {
    let changed = |plan: &&VmPlan| !plan.is_new && plan.stored().change != Change::Unchanged;
    plans.iter().filter(changed).map(|plan| plan.vm.id)
}

/// What is stored about these VMs.
async fn known<C: Catalogue + ?Sized>(
    catalogue: &mut C,
    vms: &[&SeenVm],
) -> Result<Known, StoreError> {
    let facts: Vec<VmFacts> = vms.iter().map(|vm| vm.facts.clone()).collect();
    let stored = all_readable(catalogue.vms_resembling(&facts).await?)?;
    let stored_ids: Vec<VmContextId> = stored.iter().map(|vm| vm.id).collect();
    let disks =
        if stored_ids.is_empty() { Vec::new() } else { catalogue.disks_of(&stored_ids).await? };
    Ok(Known::new(stored, disks))
}

async fn write(
    work: &mut dyn UnitOfWork,
    writes: &Writes,
    at: hub_domain::time::Timestamp,
) -> Result<(), StoreError> {
    if !writes.new_vms.is_empty() {
        work.insert_vms(&writes.new_vms).await?;
    }
    for vm in &writes.changed_vms {
        work.update_vm(vm).await?;
    }
    // First what is there: a new disk may take the key of one that is retired.
    if !writes.changed_disks.is_empty() {
        work.update_disks(&writes.changed_disks).await?;
    }
    if !writes.new_disks.is_empty() {
        work.insert_disks(&writes.new_disks, at).await?;
    }
    Ok(())
}
