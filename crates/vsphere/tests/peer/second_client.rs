//! VMware's own client sees what ours sees, and no snapshot that ours has left.

use anyhow::{Context as _, Result};
use hub_vsphere::{Adapter, Client, Disk, Places, SnapshotNode, Vm};
use hub_vsphere_peer::{DiskShape, VmShape};
use serde_json::{Value, json};

use crate::lab::{CAPACITY, first, lab, list, tracked};

fn told(vm: &Vm, places: &Places) -> Value {
    let disk = |it: &Disk| {
        json!({
            "key": it.key,
            "bytes": it.capacity_bytes,
            "file": it.backing.file_name,
            "uuid": it.backing.uuid,
            "unit": it.unit,
            "mode": it.backing.mode,
            "sharing": it.backing.sharing,
            "thin": it.backing.thin,
            "controller": it.controller.as_ref().map(|it| json!({
                "bus": it.bus,
                "number": it.number,
                "sharing": it.sharing,
            })),
        })
    };
    let network = |it: &Adapter| {
        json!({
            "label": it.label,
            "model": it.model,
            "mac": it.mac_address,
            "network": places.network(it),
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
        "networks": vm.adapters.iter().map(network).collect::<Vec<_>>(),
        "snapshots": names,
    })
}

async fn sorted(client: &Client) -> Result<Value> {
    let places = client.places().await?;
    let vms = list(client).await?.vms;
    let mut all: Vec<_> = vms.iter().map(|it| told(it, &places)).collect();
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
    let disk = |key: i32| DiskShape {
        key,
        unit: key - 2000,
        file: format!("other-{key}.vmdk"),
        capacity: CAPACITY,
        ..DiskShape::default()
    };
    let shared = "sharingMultiWriter".to_owned();
    let disks = vec![
        DiskShape { mode: "independent_persistent".into(), thin: true, ..disk(2000) },
        DiskShape { sharing: shared, bus: "sata0".into(), ..disk(2001) },
        DiskShape { bus: "scsi1".into(), bus_sharing: "virtualSharing".into(), ..disk(2002) },
        DiskShape { rdm: "virtualMode".into(), mode: "persistent".into(), ..disk(2003) },
    ];
    let other = peer.vms().unwrap().into_keys().find(|it| *it != name).unwrap();
    let shape = VmShape { vm: other, disks: Some(disks), ..VmShape::default() };
    peer.shape(&shape).unwrap();
    let Some(seen) = peer.seen_by_pyvmomi().unwrap() else { return };
    assert_eq!(sorted(&client).await.unwrap(), seen);
    let seen = seen.to_string();
    for told in
        ["ours", "independent_persistent", "sharingMultiWriter", "virtualSharing", "DC0_DVPG0"]
    {
        assert!(seen.contains(told), "{told}: {seen}");
    }
    client.remove_snapshot(&ours).await.unwrap();
    let seen = peer.seen_by_pyvmomi().unwrap().unwrap();
    assert_eq!(sorted(&client).await.unwrap(), seen);
    assert!(!seen.to_string().contains("ours"));
}
