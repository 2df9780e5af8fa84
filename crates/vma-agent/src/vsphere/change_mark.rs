//! Marks for changed blocks: the server's change id, bound to the disk and the capacity that it was taken of.

use hub_vsphere::{About, Disk, Vm};

/// Tells these marks from those of other sources and of other formats.
const PREFIX: &str = "vsphere-v3";

/// Marks of before: the first did not name the host's build, the second was not bound to the VM's reference.
const EARLIER: [&str; 2] = ["vsphere-v1", "vsphere-v2"];

/// The mark of a disk of a snapshot, on a host of some build; none where its changes are not tracked.
pub(super) fn mark(about: &About, vm: &Vm, disk: &Disk, build: &str) -> Option<String> {
    let change_id = disk.backing.change_id.as_ref()?;
    Some(format!("{PREFIX}|{}|{build}|{change_id}", identity(about, vm, disk)))
}

/// What a mark of an earlier run is worth for a disk as it is now: the change id to ask for, or why there is none.
///
/// Trap U17: the first half of a change id is another one after tracking was switched off and on, and what happened in
/// between is in no answer.
/// Builds of ESXi have lost changes, and say nothing of it after their patch; a move to a host of the same build is none
/// of that.
pub(super) fn since<'m>(
    about: &About,
    vm: &Vm,
    disk: &Disk,
    build: &str,
    mark: &'m str,
) -> Result<&'m str, String> {
    let (earlier, build_then, change_id) = parts(mark)?;
    let now = disk.backing.change_id.as_deref();
    let now =
        now.ok_or("the snapshot carries no change id: change tracking is off, or not yet active")?;
    if earlier != identity(about, vm, disk) {
        return Err("the disk is not what it was at the last copy: its key, its capacity, its backing or its datastore, its VM or the VM's reference, the server or its build has changed".to_owned());
    }
    if build_then != build {
        return Err(format!(
            "the VM's host has build {build} and had {build_then} at the last copy, and what changed across that is not believed"
        ));
    }
    check_order(change_id, now)?;
    Ok(change_id)
}

/// Identity, build and change id of a mark.
fn parts(mark: &str) -> Result<(&str, &str, &str), &'static str> {
    let parts: Vec<_> = mark.splitn(4, '|').collect();
    match parts.as_slice() {
        &[PREFIX, identity, build, change_id] => Ok((identity, build, change_id)),
        [earlier, ..] if EARLIER.contains(earlier) => Err(
            "the last copy was made by an earlier version, which wrote down less of what its mark rests on",
        ),
        _ => Err("the change id is not one of a vSphere source"),
    }
}

/// Two change ids can be asked about when one tracking has counted from the earlier to the later.
///
/// A VM that was reverted counts on from less, and what the reverting changed is in no answer.
fn check_order(earlier: &str, now: &str) -> Result<(), &'static str> {
    let anew = "change tracking was started anew since the last copy";
    let (tracking, then) = earlier.split_once('/').ok_or(anew)?;
    let (tracking_now, now) = now.split_once('/').ok_or(anew)?;
    if tracking != tracking_now {
        return Err(anew);
    }
    match (then.parse::<u64>(), now.parse::<u64>()) {
        (Ok(then), Ok(now)) if now < then => {
            Err("the change id is older than the one of the last copy: the VM was reverted")
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => {
            Err("the change id is not counted as the one of the last copy was")
        }
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => Ok(()),
    }
}

/// One digest over everything that has to be as it was; each part with its length before it.
///
/// The VM's reference is in it beside its id: who has taken a VM out of the inventory and registered it again may have
/// changed its files in between.
/// The snapshot that a change id was taken of is not: it is removed with its job, so that nothing of it is there to
/// compare with, and the next one is always another. What it would tell, that a VM was reverted or its tracking
/// started anew, the change ids tell by themselves ([`check_order`]).
fn identity(about: &About, vm: &Vm, disk: &Disk) -> String {
    let parts = [
        about.instance_uuid.as_deref().unwrap_or_default(),
        &about.build,
        vm.instance_uuid.as_deref().unwrap_or_default(),
        &vm.moref.value,
        &disk.key.to_string(),
        disk.backing.uuid.as_deref().unwrap_or_default(),
        disk.backing.datastore_name().unwrap_or_default(),
        &disk.capacity_bytes.to_string(),
    ];
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    digest.get(..32).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
