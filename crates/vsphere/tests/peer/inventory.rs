//! What the inventory says, and how much it asks for.

use hub_vsphere::{BackingKind, MoRef};
use hub_vsphere_peer::{DiskShape, PeerOptions, VmShape};

use crate::lab::{CAPACITY, first, lab, lab_with, list, tracked, vm};

#[tokio::test]
async fn a_vm_is_described_with_its_disks_networks_and_place() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let shaped = tracked(&peer, &name).unwrap();
    let places = client.places().await.unwrap();
    let all = list(&client).await.unwrap();
    assert!(all.unreadable.is_empty(), "{:?}", all.unreadable);
    let it = all.vms.iter().find(|it| it.name == name).unwrap();
    assert_eq!(it.moref, MoRef::vm(&shaped.id));
    assert_eq!(places.path(it), format!("/DC0/vm/{name}"));
    assert_eq!(places.datacenter(it), Some("DC0"));
    assert_eq!(places.datacenter_path(it).as_deref(), Some("DC0"));
    let above = client.places_above(it).await.unwrap();
    assert_eq!(
        (above.path(it), above.datacenter_path(it)),
        (places.path(it), places.datacenter_path(it))
    );
    assert!(it.instance_uuid.is_some());
    assert_eq!(it.power_state.as_deref(), Some("poweredOn"));
    assert_eq!((it.num_cpu, it.memory_mb), (Some(1), Some(32)));
    assert_eq!((it.tracking_enabled, it.tracking_supported), (true, Some(true)));
    assert!(!it.template && !it.encrypted && !it.consolidation_needed);
    let [one, two] = it.disks.as_slice() else { panic!("{:?}", it.disks) };
    assert_eq!((one.key, one.capacity_bytes, one.unit), (2000, CAPACITY, Some(0)));
    assert_eq!((two.key, two.label.as_str()), (2001, "Hard disk 2"));
    let controller = one.controller.as_ref().unwrap();
    assert_eq!((controller.slot().as_str(), controller.is_shared()), ("scsi0", false));
    let backing = &one.backing;
    assert_eq!(backing.kind, BackingKind::Flat);
    assert_eq!(backing.file_name, format!("[LocalDS_0] {name}/disk-0.vmdk"));
    assert_eq!(backing.datastore_name(), Some("LocalDS_0"));
    assert_eq!(backing.uuid.as_deref(), Some("6000C290-aaaa-bbbb-cccc-0123456789ab"));
    assert_eq!((backing.thin, two.backing.thin), (Some(true), Some(false)));
    assert_eq!(backing.mode.as_deref(), Some("persistent"));
    assert!(!backing.is_independent() && !backing.encrypted && backing.parent.is_none());
    let adapter = it.adapters.first().unwrap();
    assert_eq!(adapter.mac_address.as_deref().map(str::len), Some(17));
    assert_eq!(places.network(adapter), Some("DC0_DVPG0"), "{adapter:?}");
}

#[tokio::test]
async fn what_forbids_a_backup_is_told() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let disk = |key: i32| DiskShape {
        key,
        unit: key - 2000,
        file: format!("d{key}.vmdk"),
        capacity: CAPACITY,
        ..DiskShape::default()
    };
    let disks = vec![
        DiskShape { mode: "independent_persistent".into(), ..disk(2000) },
        DiskShape { rdm: "physicalMode".into(), ..disk(2001) },
        DiskShape { rdm: "virtualMode".into(), ..disk(2002) },
        DiskShape { sharing: "sharingMultiWriter".into(), encrypted: true, ..disk(2003) },
        DiskShape { bus: "scsi1".into(), bus_sharing: "physicalSharing".into(), ..disk(2004) },
        DiskShape { parent: "d2000.vmdk".into(), bus: "sata0".into(), ..disk(2005) },
    ];
    let shape = VmShape {
        vm: name.clone(),
        template: Some(true),
        version: Some("vmx-04".into()),
        consolidation: Some(true),
        fault_tolerance: Some("running".into()),
        encrypted: Some(true),
        disks: Some(disks),
        ..VmShape::default()
    };
    let id = peer.shape(&shape).unwrap().id;
    peer.snapshot(&name, "theirs").unwrap();
    peer.snapshot(&name, "on top").unwrap();
    let it = vm(&client, &id).await.unwrap();
    assert!(it.template && it.encrypted && it.consolidation_needed);
    assert_eq!(it.fault_tolerance.as_deref(), Some("running"));
    assert_eq!(it.hardware_version.as_deref(), Some("vmx-04"));
    assert!(!it.tracking_enabled);
    let [independent, physical, raw, multi, shared, delta] = it.disks.as_slice() else {
        panic!("{:?}", it.disks)
    };
    assert!(independent.backing.is_independent());
    assert_eq!(physical.backing.kind, BackingKind::RawPhysical);
    assert_eq!(raw.backing.kind, BackingKind::RawVirtual);
    assert_eq!(multi.backing.sharing.as_deref(), Some("sharingMultiWriter"));
    assert!(multi.backing.encrypted);
    assert!(shared.controller.as_ref().unwrap().is_shared());
    assert!(delta.backing.parent.as_ref().unwrap().ends_with("d2000.vmdk"));
    assert_eq!(delta.controller.as_ref().unwrap().slot(), "sata0");
    let tree: Vec<_> = it.snapshots.iter().flat_map(|it| it.all()).map(|it| &it.name).collect();
    assert_eq!(tree, ["theirs", "on top"]);
    assert!(it.snapshots.first().unwrap().created.is_some());
}

#[tokio::test]
async fn trap_c19_a_renamed_vm_keeps_its_identity() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let id = peer.vms().unwrap().remove(&name).unwrap();
    let before = vm(&client, &id).await.unwrap();
    let renamed = Some("caf\u{e9} <&> 100% \u{1f600}".to_owned());
    peer.shape(&VmShape { vm: name, name: renamed.clone(), ..VmShape::default() }).unwrap();
    let after = vm(&client, &id).await.unwrap();
    assert_eq!(Some(after.name), renamed);
    assert_eq!(after.instance_uuid, before.instance_uuid);
    let uuid = after.instance_uuid.unwrap();
    assert_eq!(client.vms_of_instance(&uuid).await.unwrap(), [MoRef::vm(&id)]);
    let other = peer.vms().unwrap().into_keys().find(|it| Some(it) != renamed.as_ref()).unwrap();
    peer.shape(&VmShape { vm: other, instance_uuid: Some(uuid.clone()), ..VmShape::default() })
        .unwrap();
    assert_eq!(client.vms_of_instance(&uuid).await.unwrap().len(), 2, "a copy is not hidden");
    assert!(client.vms_of_instance("none").await.unwrap().is_empty());
}

#[tokio::test]
async fn pages_are_bounded_and_a_vm_deleted_between_them_is_left_out() {
    let options = PeerOptions { vms: 130, ..PeerOptions::default() };
    let Some((peer, client)) = lab_with(options).await.unwrap() else { return };
    let before = peer.calls().unwrap();
    let mut pages = client.list_vms().await.unwrap();
    assert_eq!(pages.remaining(), 260);
    let page = pages.next_page().await.unwrap().unwrap();
    assert_eq!((page.vms.len(), pages.remaining()), (100, 160));
    let seen: Vec<_> = page.vms.iter().map(|it| it.name.clone()).collect();
    let gone = peer.vms().unwrap().into_keys().find(|it| !seen.contains(it)).unwrap();
    peer.destroy(&gone).unwrap();
    let mut rest = 0;
    while let Some(page) = pages.next_page().await.unwrap() {
        assert!(page.vms.len() <= 100 && page.unreadable.is_empty());
        assert!(page.vms.iter().all(|it| it.name != gone));
        rest += page.vms.len();
    }
    assert_eq!(rest, 159);
    let after = peer.calls().unwrap();
    let calls = |method: &str| {
        after.get(method).copied().unwrap_or(0) - before.get(method).copied().unwrap_or(0)
    };
    assert_eq!(calls("CreateContainerView"), 1);
    // One for the list itself, one for each page, and one for each VM of a page that has lost one.
    assert!(calls("RetrievePropertiesEx") <= 1 + 3 + 100, "{after:?}");
    assert!(client.vm(&MoRef::vm("vm-none")).await.unwrap().is_none());
}
