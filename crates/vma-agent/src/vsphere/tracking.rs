//! Change tracking of a VM: switched on where that is safe, and believed where it was.

use hub_vsphere::{Client, MoRef, SnapshotNode, Vm, VsphereError};

use super::plan::Planned;
use super::{Shared, known_defect, listing};

/// Why nothing is believed of a VM that somebody else has taken a snapshot of.
pub(super) const BESIDE_OTHERS: &str = "the VM has a snapshot of somebody else, beside which change tracking may have been switched on";

/// Why nothing is believed of a disk that stands on another one, though the VM has no snapshot.
pub(super) const ON_A_PARENT: &str = "the disk stands on a parent although the VM has no other snapshot, as a linked clone does, or a delta that waits to be consolidated; what such a disk says of changes is not believed";

/// Why nothing is believed after a snapshot came while tracking was switched on.
const SWITCHED_BESIDE: &str =
    "a snapshot of somebody else came while change tracking was switched on";

/// Why tracking is not switched on beside what removed snapshots have left.
const BESIDE_DELTAS: &str = "change tracking is not switched on, since disks of the VM stand on other files, as linked clones do, and deltas of removed snapshots that wait to be merged";

/// The longest build that is kept in a mark; a real one has eight digits.
const MAX_BUILD: usize = 64;

/// What changed areas rest on in a run: the build of the VM's host, or why they are not believed and leave no mark.
pub(super) type Ground = Result<String, String>;

/// Switches change tracking on where that is safe: the snapshot that is taken next makes it active.
///
/// Switched on beside a snapshot it would report wrong areas, and nobody would notice. So the list of snapshots is read
/// immediately before and again after; what was done beside one is undone. Answers why nothing is to be believed then,
/// or else why it could not be switched on, which nobody but the report of the job would tell.
pub(super) async fn switch_on(
    shared: &Shared,
    client: &Client,
    vm: &Vm,
) -> Result<Option<String>, String> {
    let wanted = shared.options.enable_change_tracking && !vm.tracking_enabled;
    if !wanted || vm.tracking_supported != Some(true) || !vm.snapshots.is_empty() {
        return Ok(None);
    }
    // No list has these, and beside them it lies as it does beside a snapshot.
    if vm.consolidation_needed || vm.disks.iter().any(|it| it.backing.parent.is_some()) {
        return Ok(Some(BESIDE_DELTAS.to_owned()));
    }
    match client.standing(&vm.moref).await {
        Ok(Some(now)) if !now.tracking_enabled && now.snapshots.is_empty() => {}
        Ok(_) => return Ok(None),
        Err(error) => {
            tracing::warn!(error = %error, "change tracking is not switched on, since the VM cannot be looked at");
            return Ok(Some(not_switched_on(&error)));
        }
    }
    let switched = client.enable_change_tracking(&vm.moref).await;
    match client.standing(&vm.moref).await {
        Ok(Some(now)) if !now.tracking_enabled || now.snapshots.is_empty() => {}
        Ok(None) => {}
        Ok(Some(_)) => return Err(undo(client, vm, SWITCHED_BESIDE).await),
        Err(error) => {
            let why = format!(
                "whether a snapshot came while change tracking was switched on cannot be read ({error})"
            );
            return Err(undo(client, vm, &why).await);
        }
    }
    match switched {
        Ok(()) => {
            tracing::info!(vm.id = listing::id(vm), "change tracking was switched on");
            Ok(None)
        }
        // Without it the disks are read in full, which is right, and slower.
        Err(error) => {
            tracing::warn!(error = %error, "change tracking could not be switched on");
            Ok(Some(not_switched_on(&error)))
        }
    }
}

fn not_switched_on(error: &VsphereError) -> String {
    format!(
        "change tracking could not be switched on, so that the next run reads everything, too: {error}"
    )
}

/// Switches tracking off again, so that no later run believes it; answers why this one does not, and what it has left.
async fn undo(client: &Client, vm: &Vm, why: &str) -> String {
    match client.disable_change_tracking(&vm.moref).await {
        Ok(()) => {
            tracing::warn!(vm.id = listing::id(vm), why, "change tracking stays off");
            format!("{why}, so it was switched off again")
        }
        Err(error) => {
            tracing::error!(
                vm.id = listing::id(vm), why, error = %error,
                "change tracking was switched on beside a snapshot and could not be switched off again: do that, and on again when the VM has no snapshot"
            );
            format!(
                "{why}, and it could not be switched off again ({error}): switch it off by hand, and on again when the VM has no snapshot, or later runs believe what it leaves out"
            )
        }
    }
}

/// What the areas of a VM rest on once its snapshot is there; what cannot be read is a doubt and fails no job.
pub(super) async fn ground(
    client: &Client,
    planned: &Planned,
    own: &MoRef,
    switched: Result<(), String>,
) -> Ground {
    switched?;
    if let Some(name) = &planned.of_another_job {
        return Err(format!(
            "the VM has the snapshot `{name}` of another job, beside which change tracking may have been switched on"
        ));
    }
    if planned.on_snapshots {
        return Err(BESIDE_OTHERS.to_owned());
    }
    let unread = |error: VsphereError| {
        format!("the VM's snapshots and the build of its host cannot be read: {error}")
    };
    let standing = client.standing(&planned.vm.moref).await.map_err(unread)?;
    let standing = standing.ok_or("the VM is gone")?;
    let all = standing.snapshots.iter().flat_map(SnapshotNode::all);
    // One that came after planning, too.
    if all.into_iter().any(|it| it.moref != *own) {
        return Err(BESIDE_OTHERS.to_owned());
    }
    let host = standing.host.ok_or("the server does not say which host the VM runs on")?;
    let release = client.host_release(&host).await.map_err(unread)?;
    let release = release.ok_or_else(|| format!("the host {} is gone", host.value))?;
    let build = release.build.clone();
    let build = build.ok_or_else(|| format!("the host {} does not tell its build", host.value))?;
    let plain = build.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_ ".contains(&it));
    if !plain || build.len() > MAX_BUILD {
        return Err(format!("the host {} tells a build that is none", host.value));
    }
    known_defect::of(&release).map_or(Ok(build), Err)
}
