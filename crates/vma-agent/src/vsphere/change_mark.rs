//! Marks for changed blocks: the server's change id, bound to the disk and the capacity that it was taken of.

use hub_vsphere::{Client, Disk, Vm};

/// Tells these marks from those of other sources and of later formats.
const PREFIX: &str = "vsphere-v1";

/// The mark of a disk of a snapshot; none where its changes are not tracked.
pub(super) fn mark(client: &Client, vm: &Vm, disk: &Disk) -> Option<String> {
    let change_id = disk.backing.change_id.as_ref()?;
    Some(format!("{PREFIX}|{}|{change_id}", identity(client, vm, disk)))
}

/// What a mark of an earlier run is worth for a disk as it is now: the change id to ask for, or why there is none.
///
/// Trap U17: the first half of a change id is another one after tracking was switched off and on, and what happened in
/// between is in no answer.
pub(super) fn since<'m>(
    client: &Client,
    vm: &Vm,
    disk: &Disk,
    mark: &'m str,
) -> Result<&'m str, &'static str> {
    let parts: Vec<_> = mark.splitn(3, '|').collect();
    let &[PREFIX, earlier, change_id] = parts.as_slice() else {
        return Err("the change id is not one of a vSphere source");
    };
    let now = disk.backing.change_id.as_deref();
    let now =
        now.ok_or("the snapshot carries no change id: change tracking is off, or not yet active")?;
    if earlier != identity(client, vm, disk) {
        return Err(
            "the disk is not what it was at the last copy: its capacity, its backing, its datastore, its VM or the build of the server has changed",
        );
    }
    check_order(change_id, now)?;
    Ok(change_id)
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
        _ => Ok(()),
    }
}

/// One digest over everything that has to be as it was; each part with its length before it.
fn identity(client: &Client, vm: &Vm, disk: &Disk) -> String {
    let about = client.about();
    let parts = [
        about.instance_uuid.as_deref().unwrap_or_default(),
        &about.build,
        vm.instance_uuid.as_deref().unwrap_or(&vm.moref.value),
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
mod tests {
    use super::*;

    #[test]
    fn trap_u17_only_a_later_change_id_of_the_same_tracking_is_asked_about() {
        for (earlier, now) in [("52 00/3", "52 00/4"), ("52 00/9", "52 00/10"), ("a/3", "a/3")] {
            assert_eq!(check_order(earlier, now), Ok(()), "{earlier} {now}");
        }
        assert_eq!(check_order("52 00/new", "52 00/3"), Ok(()), "what counts otherwise is opaque");
        for (earlier, now) in
            [("52 00/4", "52 00/3"), ("52 00/3", "52 01/4"), ("52", "52"), ("", "/1")]
        {
            assert!(check_order(earlier, now).is_err(), "{earlier} {now}");
        }
    }
}
