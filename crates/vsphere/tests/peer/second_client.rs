//! VMware's own client sees what ours sees, and no snapshot that ours has left.

use anyhow::{Context as _, Result};
use hub_vsphere::{Disk, SnapshotNode, Vm};
use serde_json::{Value, json};

use crate::lab::{first, lab, list, tracked};

fn told(vm: &Vm) -> Value {
    let disk = |it: &Disk| {
        json!({
            "key": it.key,
            "bytes": it.capacity_bytes,
            "file": it.backing.file_name,
            "uuid": it.backing.uuid,
            "unit": it.unit,
        })
    };
    let names: Vec<_> =
        vm.snapshots.iter().flat_map(SnapshotNode::all).map(|it| it.name.clone()).collect();
    json!({
        "moref": vm.moref.value,
        "name": vm.name,
        "instance_uuid": vm.instance_uuid,
        "power": vm.power_state,
        "version": vm.hardware_version,
        "tracking": vm.tracking_enabled,
        "disks": vm.disks.iter().map(disk).collect::<Vec<_>>(),
        "snapshots": names,
    })
}

fn sorted(vms: &[Vm]) -> Result<Value> {
    let mut all: Vec<_> = vms.iter().map(told).collect();
    all.sort_by_key(|it| it.get("moref").map(ToString::to_string));
    serde_json::to_value(all).context("it is JSON")
}

#[tokio::test]
async fn both_clients_see_one_inventory_and_no_snapshot_is_left() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let shaped = tracked(&peer, &name).unwrap();
    peer.snapshot(&name, "theirs").unwrap();
    let vm = hub_vsphere::MoRef::vm(shaped.id);
    let ours = client.create_snapshot(&vm, "ours", "", false).await.unwrap();
    let Some(seen) = peer.seen_by_pyvmomi().unwrap() else { return };
    assert_eq!(sorted(&list(&client).await.unwrap().vms).unwrap(), seen);
    assert!(seen.to_string().contains("ours"));
    client.remove_snapshot(&ours).await.unwrap();
    let seen = peer.seen_by_pyvmomi().unwrap().unwrap();
    assert_eq!(sorted(&list(&client).await.unwrap().vms).unwrap(), seen);
    assert!(!seen.to_string().contains("ours"));
}
