//! A mark is worth something for exactly what it was taken of.

use hub_vsphere::{Backing, BackingKind, MoRef};

use super::*;

type Scene = (About, Vm, Disk, String);

/// What happens to a scene.
type Change = fn(&mut Scene);

#[test]
fn a_mark_has_its_parts_in_order_whatever_its_change_id_holds() {
    assert_eq!(parts("vsphere-v3|id|123|52 00/3"), Ok(("id", "123", "52 00/3")));
    assert_eq!(parts("vsphere-v3|id|123|5|2|/3"), Ok(("id", "123", "5|2|/3")));
    for earlier in ["vsphere-v1|id|52 00/3", "vsphere-v2|id|123|52 00/3"] {
        assert!(parts(earlier).unwrap_err().contains("earlier version"), "{earlier}");
    }
    for other in ["", "vsphere-v3", "vsphere-v3|id|52 00/3", "folder|id|123|52 00/3"] {
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

/// Everything that a mark is bound to, and what another one of it is.
const BOUND: [(&str, Change); 12] = [
    ("the vCenter", |it| it.0.instance_uuid = Some("another vCenter".into())),
    ("no vCenter", |it| it.0.instance_uuid = None),
    ("the build of the vCenter", |it| it.0.build = "22617222".into()),
    ("the VM", |it| it.1.instance_uuid = Some("another VM".into())),
    ("the VM's reference", |it| it.1.moref = MoRef::vm("vm-8")),
    ("the disk's key", |it| it.2.key = 2001),
    ("the backing", |it| it.2.backing.uuid = Some("another backing".into())),
    ("the datastore", |it| it.2.backing.file_name = "[other] web/web.vmdk".into()),
    ("the capacity", |it| it.2.capacity_bytes = 2 << 30),
    ("the build of the host", |it| it.3 = "17700523".into()),
    ("a tracking at all", |it| it.2.backing.change_id = None),
    ("the tracking", |it| it.2.backing.change_id = Some("52 01/8".into())),
];

#[test]
fn trap_u16_trap_u17_each_part_that_binds_a_mark_ends_it_alone() {
    let scene = scene();
    let (about, vm, disk, build) = &scene;
    let mark = mark(about, vm, disk, build).unwrap();
    for (what, change) in BOUND {
        let mut other = scene.clone();
        change(&mut other);
        let (about, vm, disk, build) = &other;
        assert!(since(about, vm, disk, build, &mark).is_err(), "{what} is not bound");
    }
    assert_eq!(since(about, vm, disk, build, &mark), Ok("52 00/7"));
}

/// What may change between two runs, and loses no change.
#[test]
fn a_mark_outlives_what_says_nothing_about_the_content() {
    let same: [(&str, Change); 6] = [
        ("a later change id", |it| it.2.backing.change_id = Some("52 00/9".into())),
        ("a new name", |it| it.1.name = "renamed".into()),
        ("another host of the same build", |it| it.1.host = Some(MoRef::vm("host-2"))),
        ("another folder", |it| it.1.parent = Some(MoRef::vm("group-v9"))),
        ("a file of another name in the same datastore", |it| {
            it.2.backing.file_name = "[store] web/web_1.vmdk".into();
        }),
        ("another label", |it| it.2.label = "Festplatte 1".into()),
    ];
    let scene = scene();
    let (about, vm, disk, build) = &scene;
    let mark = mark(about, vm, disk, build).unwrap();
    for (what, change) in same {
        let mut other = scene.clone();
        change(&mut other);
        let (about, vm, disk, build) = &other;
        assert_eq!(since(about, vm, disk, build, &mark), Ok("52 00/7"), "{what}");
    }
}

/// Parts that run into each other would let two disks share a mark.
#[test]
fn no_part_of_an_identity_is_taken_for_another() {
    let (about, mut vm, mut disk, _) = scene();
    vm.instance_uuid = Some("a".into());
    vm.moref = MoRef::vm("bc");
    let one = identity(&about, &vm, &disk);
    vm.instance_uuid = Some("ab".into());
    vm.moref = MoRef::vm("c");
    assert_ne!(identity(&about, &vm, &disk), one);
    disk.backing.change_id = None;
    assert_eq!(mark(&about, &vm, &disk, "1"), None, "an untracked disk");
}

fn scene() -> Scene {
    let about = About {
        product: "VMware vCenter Server".into(),
        api_type: "VirtualCenter".into(),
        version: "8.0.2".into(),
        build: "22617221".into(),
        instance_uuid: Some("a vCenter".into()),
    };
    let backing = Backing {
        kind: BackingKind::Flat,
        file_name: "[store] web/web.vmdk".into(),
        datastore: None,
        uuid: Some("a backing".into()),
        change_id: Some("52 00/7".into()),
        mode: None,
        sharing: None,
        thin: None,
        eager: None,
        parent: None,
        encrypted: false,
    };
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        capacity_bytes: 1 << 30,
        controller: None,
        unit: Some(0),
        backing,
        used_bytes: None,
    };
    let vm = Vm {
        moref: MoRef::vm("vm-7"),
        name: "web".into(),
        instance_uuid: Some("a VM".into()),
        template: false,
        power_state: None,
        connection_state: None,
        tools: None,
        guest_id: None,
        num_cpu: None,
        memory_mb: None,
        hardware_version: None,
        tracking_enabled: true,
        tracking_supported: Some(true),
        disks: vec![disk.clone()],
        adapters: Vec::new(),
        snapshots: Vec::new(),
        consolidation_needed: false,
        fault_tolerance: None,
        encrypted: false,
        host: None,
        parent: None,
    };
    (about, vm, disk, "17630552".into())
}
