//! Marks for changed blocks: the server's change id, bound to the disk and the capacity that it was taken of.

use hub_vsphere::{Client, Disk, Vm};

/// Tells these marks from those of other sources and of other formats.
const PREFIX: &str = "vsphere-v2";

/// Marks of before, which did not name the host's build.
const WITHOUT_BUILD: &str = "vsphere-v1";

/// The mark of a disk of a snapshot, on a host of some build; none where its changes are not tracked.
pub(super) fn mark(client: &Client, vm: &Vm, disk: &Disk, build: &str) -> Option<String> {
    let change_id = disk.backing.change_id.as_ref()?;
    Some(format!("{PREFIX}|{}|{build}|{change_id}", identity(client, vm, disk)))
}

/// What a mark of an earlier run is worth for a disk as it is now: the change id to ask for, or why there is none.
///
/// Trap U17: the first half of a change id is another one after tracking was switched off and on, and what happened in
/// between is in no answer.
/// Builds of ESXi have lost changes, and say nothing of it after their patch; a move to a host of the same build is none
/// of that.
pub(super) fn since<'m>(
    client: &Client,
    vm: &Vm,
    disk: &Disk,
    build: &str,
    mark: &'m str,
) -> Result<&'m str, String> {
    let (earlier, build_then, change_id) = parts(mark)?;
    let now = disk.backing.change_id.as_deref();
    let now =
        now.ok_or("the snapshot carries no change id: change tracking is off, or not yet active")?;
    if earlier != identity(client, vm, disk) {
        return Err("the disk is not what it was at the last copy: its capacity, its backing, its datastore, its VM or the build of the server has changed".to_owned());
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
        [WITHOUT_BUILD, ..] => Err(
            "the last copy was made by an earlier version, which did not write down the build of the VM's host",
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
    fn a_mark_has_its_parts_in_order_whatever_its_change_id_holds() {
        assert_eq!(parts("vsphere-v2|id|123|52 00/3"), Ok(("id", "123", "52 00/3")));
        assert_eq!(parts("vsphere-v2|id|123|5|2|/3"), Ok(("id", "123", "5|2|/3")));
        assert!(parts("vsphere-v1|id|52 00/3").unwrap_err().contains("earlier version"));
        for other in ["", "vsphere-v2", "vsphere-v2|id|52 00/3", "folder|id|123|52 00/3"] {
            assert!(parts(other).unwrap_err().contains("not one of a vSphere source"), "{other}");
        }
    }

    #[test]
    fn trap_u17_only_a_later_change_id_of_the_same_tracking_is_asked_about() {
        for (earlier, now) in [("52 00/3", "52 00/4"), ("52 00/9", "52 00/10"), ("a/3", "a/3")] {
            assert_eq!(check_order(earlier, now), Ok(()), "{earlier} {now}");
        }
        assert_eq!(check_order("52 00/a", "52 00/b"), Ok(()), "what counts otherwise is opaque");
        for (earlier, now) in [
            ("52 00/4", "52 00/3"),
            ("52 00/3", "52 01/4"),
            ("52", "52"),
            ("", "/1"),
            ("a/b", "a/3"),
            ("a/3", "a/99999999999999999999"),
        ] {
            assert!(check_order(earlier, now).is_err(), "{earlier} {now}");
        }
    }
}
