//! Discovery of a folder: everything good is listed, everything bad is named.

use std::os::unix::fs::symlink;

use hub_vma_api::{DiscoverFilter, DiscoverRequest, Inventory};

use crate::fixture::{DISK, Fixture, descriptor};
use crate::folder::{FolderError, FolderOptions, FolderSource};
use crate::source::{Source, SourceError};

async fn listed(fixture: &Fixture) -> anyhow::Result<Inventory> {
    Ok(fixture.source()?.inventory(&DiscoverRequest::default()).await?)
}

#[tokio::test]
async fn a_vm_is_listed_with_its_disks_and_networks() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.flat_vm("pgtest1", "pgtest1", &[1, 2]).unwrap();
    let vmx = std::fs::read_to_string(home.join("vm.vmx")).unwrap();
    let more = "uuid.bios = \"42 05 78 4a 00 00 00 00-00 00 00 00 00 00 00 01\"\nguestOS = \"ubuntu-64\"\nnumvcpus = \"4\"\nmemSize = \"8192\"\nethernet0.present = \"TRUE\"\nethernet0.networkName = \"VM Network\"\nethernet0.virtualDev = \"vmxnet3\"\nethernet0.generatedAddress = \"00:50:56:85:bf:a2\"\n";
    std::fs::write(home.join("vm.vmx"), vmx + more).unwrap();

    let inventory = listed(&fixture).await.unwrap();
    assert_eq!(inventory.warnings, []);
    assert_eq!(inventory.vcenter.host, "lab");
    let vm = &inventory.vms[0];
    assert_eq!(vm.id, "4205784a-0000-0000-0000-000000000001");
    assert_eq!(vm.path, "/lab/datastore1/pgtest1");
    assert_eq!(vm.power_state.as_deref(), Some("poweredOff"));
    assert_eq!((vm.num_cpu, vm.memory_mb), (Some(4), Some(8192)));
    assert_eq!(vm.vmx_version.as_deref(), Some("vmx-15"));
    assert_eq!(vm.networks[0].network_name, "VM Network");
    let disk = &vm.disks[1];
    assert_eq!((disk.id.as_str(), disk.label.as_str()), ("disk-2001", "Hard disk 2"));
    assert_eq!(disk.path, "[datastore1] pgtest1/disk1.vmdk");
    assert_eq!((disk.capacity_bytes, disk.size_gb), (DISK, 1));
    assert_eq!((disk.unit_number, disk.bus.as_deref()), (Some(1), Some("scsi0")));
}

#[tokio::test]
async fn names_may_be_anything_and_default_to_the_file() {
    let fixture = Fixture::new().unwrap();
    let long = "x".repeat(200);
    let names = ["a b", "a/b", "a,b|c", "Größe Тест 試験", long.as_str()];
    for (index, name) in names.iter().enumerate() {
        fixture.flat_vm(&format!("dir {index},ü"), &name.replace('|', "|7C"), &[1]).unwrap();
    }
    fixture.vm("unnamed", "").unwrap();
    let inventory = listed(&fixture).await.unwrap();
    assert_eq!(inventory.warnings, []);
    let mut found: Vec<_> = inventory.vms.iter().map(|it| it.name.as_str()).collect();
    let mut expected: Vec<_> = names.iter().copied().chain(["vm"]).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn two_vms_with_one_id_are_both_left_out_and_named_trap_c19() {
    let fixture = Fixture::new().unwrap();
    let uuid = "uuid.bios = \"564d0102030405060708090a0b0c0d0e\"";
    fixture.vm("one", uuid).unwrap();
    fixture.vm("copy of one", uuid).unwrap();
    fixture.vm("same name", "displayName = \"twin\"").unwrap();
    fixture.vm("same name 2", "displayName = \"twin\"").unwrap();
    let inventory = listed(&fixture).await.unwrap();
    assert_eq!(inventory.vms.len(), 2, "names may be double, ids may not");
    let subjects: Vec<_> = inventory.warnings.iter().map(|it| it.subject.as_str()).collect();
    assert_eq!(subjects, ["vm", "vm"], "the names that a user would ask for");
    let where_they_lie = ["[datastore1] copy of one/vm.vmx", "[datastore1] one/vm.vmx"];
    for (warning, place) in inventory.warnings.iter().zip(where_they_lie) {
        assert!(warning.detail.starts_with(place), "{warning:?}");
        assert!(where_they_lie.iter().all(|it| warning.detail.contains(it)), "{warning:?}");
    }

    let id = "564d0102-0304-0506-0708-090a0b0c0d0e";
    let refused = fixture.source().unwrap().check(&crate::fixture::asking(id, &[])).await;
    assert!(matches!(refused, Err(SourceError::VmAmbiguous { .. })));
}

#[tokio::test]
async fn a_bad_vm_is_a_warning_and_spoils_nothing() {
    let fixture = Fixture::new().unwrap();
    fixture.flat_vm("good", "good", &[1]).unwrap();
    let disk = "scsi0:0.fileName = \"d.vmdk\"";
    for (directory, text) in [
        ("rdm", Some(descriptor("vmfsRawDeviceMap", "RW 8 VMFSRDM \"x\""))),
        ("absolute", Some(descriptor("vmfs", "RW 8 VMFS \"/etc/shadow\""))),
        ("dots", Some(descriptor("vmfs", "RW 8 VMFS \"../good/disk0-flat.vmdk\""))),
        ("missing", None),
    ] {
        let home = fixture.vm(directory, disk).unwrap();
        if let Some(text) = text {
            std::fs::write(home.join("d.vmdk"), text).unwrap();
        }
    }
    let home = fixture.vm("rubbish", "").unwrap();
    std::fs::write(home.join("vm.vmx"), [0xff; 100]).unwrap();
    let home = fixture.vm("link", "").unwrap();
    std::fs::remove_file(home.join("vm.vmx")).unwrap();
    symlink("/etc/passwd", home.join("vm.vmx")).unwrap();
    symlink("/etc", fixture.path("elsewhere")).unwrap();

    let inventory = listed(&fixture).await.unwrap();
    let names: Vec<_> = inventory.vms.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    // A VM whose name could be read is named by it, and its place begins the detail.
    let place = |it: &hub_vma_api::Warning| match it.subject.as_str() {
        "vm" => it.detail.split(": ").next().unwrap_or_default().to_owned(),
        place => place.to_owned(),
    };
    let mut places: Vec<_> = inventory.warnings.iter().map(place).collect();
    places.sort_unstable();
    let expected = [
        "absolute/vm.vmx",
        "dots/vm.vmx",
        "elsewhere",
        "link/vm.vmx",
        "missing/vm.vmx",
        "rdm/vm.vmx",
        "rubbish/vm.vmx",
    ];
    assert_eq!(places, expected.map(|it| format!("[datastore1] {it}")));
}

#[tokio::test]
async fn vms_are_found_three_levels_deep_and_not_in_hidden_directories() {
    let fixture = Fixture::new().unwrap();
    for directory in ["one", "a/two", "a/b/three", "a/b/c/four", ".snapshot/five"] {
        fixture.vm(directory, &format!("displayName = \"{directory}\"")).unwrap();
    }
    std::fs::write(fixture.path("at the root.vmx"), "displayName = \"root\"").unwrap();
    let inventory = listed(&fixture).await.unwrap();
    let mut names: Vec<_> = inventory.vms.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a/b/three", "a/two", "one"]);
}

#[tokio::test]
async fn a_filter_takes_what_matches_any_of_its_lists() {
    let fixture = Fixture::new().unwrap();
    for name in ["a", "b", "c"] {
        fixture.vm(name, &format!("displayName = \"{name}\"")).unwrap();
    }
    let all = listed(&fixture).await.unwrap();
    let filter = DiscoverFilter { names: vec!["a".into()], ids: vec![all.vms[2].id.clone()] };
    let request = DiscoverRequest { filter: Some(filter), ..DiscoverRequest::default() };
    let some = fixture.source().unwrap().inventory(&request).await.unwrap();
    let names: Vec<_> = some.vms.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn power_is_told_by_locks_and_by_the_suspended_memory() {
    let fixture = Fixture::new().unwrap();
    let on = fixture.vm("on", "displayName = \"on\"").unwrap();
    std::fs::create_dir(on.join("vm.vmx.lck")).unwrap();
    let nfs = fixture.vm("on nfs", "displayName = \"on nfs\"").unwrap();
    std::fs::write(nfs.join(".lck-0a00000000000000"), b"").unwrap();
    let asleep = "displayName = \"suspended\"\ncheckpoint.vmState = \"vm.vmss\"";
    let suspended = fixture.vm("suspended", asleep).unwrap();
    std::fs::write(suspended.join("vm.vmss"), b"").unwrap();
    let inventory = listed(&fixture).await.unwrap();
    let states: Vec<_> =
        inventory.vms.iter().map(|it| it.power_state.as_deref().unwrap()).collect();
    assert_eq!(states, ["poweredOn", "poweredOn", "suspended"]);
}

#[tokio::test]
async fn a_missing_datastore_is_an_error_and_not_an_empty_list() {
    let fixture = Fixture::new().unwrap();
    let source = fixture.source().unwrap();
    std::fs::remove_dir(fixture.root()).unwrap();
    let refused = source.inventory(&DiscoverRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), "source/unavailable");
}

#[tokio::test]
async fn datastores_do_not_overlap() {
    let fixture = Fixture::new().unwrap();
    fixture.flat_vm("inner/vm", "vm", &[1]).unwrap();
    symlink(fixture.path("inner"), fixture.root().with_file_name("other")).unwrap();
    for second in [fixture.path("inner"), fixture.root().with_file_name("other")] {
        let options =
            FolderOptions { name: "x".to_owned(), datastores: vec![fixture.root(), second] };
        let source = FolderSource::new(options).unwrap();
        let refused = source.inventory(&DiscoverRequest::default()).await.unwrap_err();
        assert!(refused.to_string().contains("inside another"), "{refused}");
    }
}

#[tokio::test]
async fn a_source_is_set_up_with_datastores_that_can_be_told_apart() {
    let options = |datastores: &[&str]| FolderOptions {
        name: "x".to_owned(),
        datastores: datastores.iter().map(Into::into).collect(),
    };
    assert!(matches!(FolderSource::new(options(&[])), Err(FolderError::NoDatastore)));
    let same = FolderSource::new(options(&["/a/ds", "/b/ds"]));
    assert!(matches!(same, Err(FolderError::SameName(name)) if name == "ds"));
}

#[tokio::test]
async fn many_vms_are_listed_in_the_order_of_their_paths() {
    let fixture = Fixture::new().unwrap();
    for number in 0..700 {
        fixture.vm(&format!("vm{number:04}"), "").unwrap();
    }
    let inventory = listed(&fixture).await.unwrap();
    assert_eq!(inventory.vms.len(), 700);
    let paths: Vec<_> = inventory.vms.iter().map(|it| &it.path).collect();
    assert!(paths.is_sorted());
}
