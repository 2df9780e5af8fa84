//! Change tracking of a VM: switched on where that is safe, believed where it was, and started anew where it is doubted.

use hub_vsphere::{Client, Disk, MoRef, SnapshotNode, Vm, VsphereError};

use super::plan::Planned;
use super::track_record::TrackRecord;
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

/// What changed areas of a disk rest on in a run: the build of the VM's host, or why they are not believed and leave no
/// mark.
pub(super) type Ground = Result<String, String>;

/// What became of change tracking before the snapshot of a job.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Why nothing is believed in this run.
    pub(super) unbelieved: Option<String>,
    /// Whether that is because it may be on since a moment that had a snapshot.
    pub(super) beside: bool,
    /// Why it could not be switched on, which nobody but the report of the job would tell.
    pub(super) refused: Option<String>,
}

impl Prepared {
    fn refused(why: String) -> Self {
        Self { refused: Some(why), ..Self::default() }
    }

    fn beside(why: String) -> Self {
        Self { unbelieved: Some(why), beside: true, ..Self::default() }
    }
}

/// Prepares change tracking for the snapshot that is taken next: switches it on, or off where it is doubted.
pub(super) async fn prepare(
    shared: &Shared,
    client: &Client,
    vm: &Vm,
    known: &TrackRecord,
) -> Prepared {
    if !shared.options.enable_change_tracking || !vm.snapshots.is_empty() {
        return Prepared::default();
    }
    let on_deltas =
        vm.consolidation_needed || vm.disks.iter().any(|it| it.backing.parent.is_some());
    if !vm.tracking_enabled {
        return match vm.tracking_supported {
            // No list has these, and beside them it lies as it does beside a snapshot.
            Some(true) if on_deltas => Prepared::refused(BESIDE_DELTAS.to_owned()),
            Some(true) => switch_on(client, vm).await,
            Some(false) | None => Prepared::default(),
        };
    }
    if on_deltas {
        return Prepared::default();
    }
    // One that has told nothing yet, or tells of another tracking by now, is not in the way.
    let told = vm.disks.iter().filter(|it| it.backing.change_id.is_some());
    match told.filter_map(|it| known.doubt(it)).next() {
        Some(doubt) => start_anew(client, vm, doubt).await,
        None => Prepared::default(),
    }
}

/// Switches change tracking on: the snapshot that is taken next makes it active.
///
/// Switched on beside a snapshot it would report wrong areas, and nobody would notice. So the list of snapshots is read
/// immediately before it and again after; what was done beside one is undone.
async fn switch_on(client: &Client, vm: &Vm) -> Prepared {
    match client.standing(&vm.moref).await {
        Ok(Some(now)) if !now.tracking_enabled && now.snapshots.is_empty() => {}
        Ok(_) => return Prepared::default(),
        Err(error) => {
            tracing::warn!(error = %error, "change tracking is not switched on, since the VM cannot be looked at");
            return Prepared::refused(not_switched_on(&error));
        }
    }
    let switched = client.enable_change_tracking(&vm.moref).await;
    match client.standing(&vm.moref).await {
        Ok(Some(now)) if !now.tracking_enabled || now.snapshots.is_empty() => {}
        Ok(None) => {}
        Ok(Some(_)) => return Prepared::beside(undo(client, vm, SWITCHED_BESIDE).await),
        Err(error) => {
            let why = format!(
                "whether a snapshot came while change tracking was switched on cannot be read ({error})"
            );
            return Prepared::beside(undo(client, vm, &why).await);
        }
    }
    match switched {
        Ok(()) => {
            tracing::info!(vm.id = listing::id(vm), "change tracking was switched on");
            Prepared::default()
        }
        // Without it the disks are read in full, which is right, and slower.
        Err(error) => {
            tracing::warn!(error = %error, "change tracking could not be switched on");
            Prepared::refused(not_switched_on(&error))
        }
    }
}

/// The first half of starting tracking anew: it is switched off, and the snapshot of this job, which comes next and goes
/// with it, makes that take effect. The next run finds it off and switches it on, by the rule for all.
///
/// Both in one run would be no new tracking, or want a second snapshot: a host acts on the setting only when a
/// snapshot comes or goes. Somebody who has a snapshot may be about to ask for changed areas, so it is switched off
/// only where the list is empty at that moment; one that comes after does no harm to what is off.
async fn start_anew(client: &Client, vm: &Vm, doubt: &str) -> Prepared {
    match client.standing(&vm.moref).await {
        Ok(Some(now)) if now.tracking_enabled && now.snapshots.is_empty() => {}
        // The doubt stays on record, and with it what every disk is told.
        Ok(_) | Err(_) => return Prepared::default(),
    }
    let unbelieved = match client.disable_change_tracking(&vm.moref).await {
        Ok(()) => {
            tracing::warn!(vm.id = listing::id(vm), doubt, "change tracking was switched off");
            format!(
                "{doubt}; change tracking was switched off, and the next run switches it on anew"
            )
        }
        Err(error) => {
            tracing::warn!(vm.id = listing::id(vm), doubt, error = %error, "change tracking could not be switched off");
            format!(
                "{doubt}; change tracking could not be switched off to be started anew: {error}"
            )
        }
    };
    Prepared { unbelieved: Some(unbelieved), ..Prepared::default() }
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
                "{why}, and it could not be switched off again ({error}): switch it off by hand, and on again when the VM has no snapshot; no later run believes it"
            )
        }
    }
}

/// What the areas of a VM rest on once its snapshot is there, and why tracking that is seen for the first time may have
/// begun beside a snapshot; what cannot be read is a doubt and fails no job.
pub(super) async fn ground(
    client: &Client,
    planned: &Planned,
    own: &MoRef,
    prepared: &Prepared,
) -> (Ground, Option<String>) {
    if let Some(why) = &prepared.unbelieved {
        return (Err(why.clone()), Some(why.clone()).filter(|_| prepared.beside));
    }
    match alone(client, planned, own).await {
        Ok(host) => (build(client, host).await, None),
        Err(why) => (Err(why.clone()), Some(why)),
    }
}

/// The host of a VM that has no snapshot but ours.
async fn alone(client: &Client, planned: &Planned, own: &MoRef) -> Result<Option<MoRef>, String> {
    if let Some(name) = &planned.of_another_job {
        return Err(format!(
            "the VM has the snapshot `{name}` of another job, beside which change tracking may have been switched on"
        ));
    }
    if planned.on_snapshots {
        return Err(BESIDE_OTHERS.to_owned());
    }
    let standing = client.standing(&planned.vm.moref).await.map_err(unread)?;
    let standing = standing.ok_or("the VM is gone")?;
    let all = standing.snapshots.iter().flat_map(SnapshotNode::all);
    // One that came after planning, too.
    if all.into_iter().any(|it| it.moref != *own) {
        return Err(BESIDE_OTHERS.to_owned());
    }
    Ok(standing.host)
}

/// The build of a host that is not known to lose changes.
async fn build(client: &Client, host: Option<MoRef>) -> Ground {
    let host = host.ok_or("the server does not say which host the VM runs on")?;
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

fn unread(error: VsphereError) -> String {
    format!("the VM's snapshots and the build of its host cannot be read: {error}")
}

/// What the areas of one disk rest on, in a VM that rests on `ground`.
pub(super) fn ground_of(
    shared: &Shared,
    ground: &Ground,
    disk: &Disk,
    known: &TrackRecord,
) -> Ground {
    let build = ground.clone()?;
    if disk.backing.parent.is_some() {
        return Err(ON_A_PARENT.to_owned());
    }
    let Some(doubt) = known.doubt(disk) else { return Ok(build) };
    let remedy = if shared.options.enable_change_tracking {
        "the next runs that find the VM without snapshots start change tracking anew"
    } else {
        "start change tracking of the VM anew (docs/vsphere.md)"
    };
    Err(format!("{doubt}; {remedy}"))
}
