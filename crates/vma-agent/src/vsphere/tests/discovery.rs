//! What discovery tells, and who may ask.

use std::time::Duration;

use hub_vma_api::{Credentials, DiscoverFilter, DiscoverRequest};
use hub_vsphere_peer::{DiskLibrary, DiskShape, PeerOptions, Trouble, VmShape};

use super::lab::{CAPACITY, Lab, disk, named, options, raw, with_account};
use crate::source::Source as _;
use crate::vsphere::{VsphereOptions, VsphereSource};

fn request(credentials: Credentials) -> DiscoverRequest {
    DiscoverRequest { credentials: Some(credentials), ..DiscoverRequest::default() }
}

#[tokio::test]
async fn a_vm_is_told_with_everything_that_a_backup_has_to_know() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.snapshot(&lab.vm, "theirs").unwrap();
    lab.peer.snapshot(&lab.vm, "on top").unwrap();
    let told = lab.source.inventory(&request(lab.credentials())).await.unwrap();
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);
    assert_eq!(told.vcenter.host, lab.peer.address());
    assert!(told.vcenter.instance_uuid.is_some());
    let vm = told.vms.iter().find(|it| it.id == lab.id).unwrap();
    assert_eq!((&vm.name, vm.instance_uuid.as_ref()), (&lab.vm, Some(&lab.id)));
    assert_eq!(vm.path, format!("/DC0/vm/{}", lab.vm));
    assert_eq!(vm.datacenter.as_deref(), Some("DC0"));
    assert!(vm.moref.as_deref().unwrap().starts_with("vm-"));
    assert_eq!(
        (vm.template, vm.encrypted, vm.consolidation_needed),
        (Some(false), Some(false), Some(false))
    );
    let tracking = vm.change_tracking.unwrap();
    assert_eq!((tracking.supported, tracking.enabled), (Some(true), Some(false)));
    let snapshots = vm.snapshots.as_ref().unwrap();
    assert_eq!((snapshots[0].name.as_str(), snapshots[1].name.as_str()), ("theirs", "on top"));
    assert_eq!(snapshots[1].parent.as_ref(), Some(&snapshots[0].id));
    let disk = &vm.disks[0];
    assert_eq!((disk.id.as_str(), disk.capacity_bytes), ("disk-2000", CAPACITY));
    assert_eq!((disk.device_key, disk.bus.as_deref()), (Some(2000), Some("scsi0")));
    assert_eq!((disk.controller.as_deref(), disk.bus_number), (Some("scsi"), Some(0)));
    assert_eq!((disk.mode.as_deref(), disk.sharing.as_deref()), (Some("persistent"), Some("none")));
    assert_eq!((disk.rdm.as_deref(), disk.has_change_id), (Some("none"), Some(false)));
    assert_eq!((disk.datastore.as_str(), disk.size_gb), ("LocalDS_0", 1));
    assert_eq!(vm.networks[0].network_name, "DC0_DVPG0");
}

#[tokio::test]
async fn a_host_without_a_vcenter_is_told_too() {
    let options = PeerOptions { esxi: true, ..PeerOptions::default() };
    let Some(lab) = Lab::start_with(options).await.unwrap() else { return };
    let told = lab.source.inventory(&request(lab.credentials())).await.unwrap();
    assert_eq!(told.vms.len(), 1);
    assert_eq!(told.vms[0].datacenter.as_deref(), Some("ha-datacenter"));
}

#[tokio::test]
async fn a_vm_that_is_asked_for_by_its_id_is_told_as_in_the_list_of_all() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let all = lab.source.inventory(&request(lab.credentials())).await.unwrap();
    let listed = all.vms.iter().find(|it| it.id == lab.id).unwrap();
    let ask = |ids: &[&str]| {
        let ids = ids.iter().map(|it| (*it).to_owned()).collect();
        let filter = Some(DiscoverFilter { names: Vec::new(), ids });
        DiscoverRequest { filter, ..request(lab.credentials()) }
    };
    let one = lab.source.inventory(&ask(&["no such VM", &lab.id])).await.unwrap();
    assert_eq!((one.vms.as_slice(), &one.vcenter), (std::slice::from_ref(listed), &all.vcenter));
    assert!(one.warnings.is_empty(), "{:?}", one.warnings);
    assert!(lab.source.inventory(&ask(&["vm-4711"])).await.unwrap().vms.is_empty());
    let elsewhere = DiscoverRequest { datacenter: Some("DC9".to_owned()), ..ask(&[&lab.id]) };
    assert!(lab.source.inventory(&elsewhere).await.unwrap().vms.is_empty());
}

#[tokio::test]
async fn filters_narrow_and_a_copied_id_hides_both_vms_with_a_warning() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let mut asked = request(lab.credentials());
    asked.filter = Some(DiscoverFilter { names: vec![lab.vm.clone()], ids: Vec::new() });
    assert_eq!(lab.source.inventory(&asked).await.unwrap().vms.len(), 1);
    asked.datacenter = Some("DC9".to_owned());
    assert!(lab.source.inventory(&asked).await.unwrap().vms.is_empty());
    let other = lab.peer.vms().unwrap().into_keys().find(|it| *it != lab.vm).unwrap();
    let copied = VmShape { instance_uuid: Some(lab.id.clone()), ..named(&other) };
    lab.peer.shape(&copied).unwrap();
    let told = lab.source.inventory(&request(lab.credentials())).await.unwrap();
    assert_eq!((told.vms.len(), told.warnings.len()), (0, 2), "{told:?}");
    // Asked for by its name, the copy is not alone either: the hub would take it for the VM that it was copied from.
    let mut asked = request(lab.credentials());
    asked.filter = Some(DiscoverFilter { names: vec![other.clone()], ids: Vec::new() });
    let told = lab.source.inventory(&asked).await.unwrap();
    assert_eq!((told.vms.len(), told.warnings.len()), (0, 1), "{told:?}");
    assert_eq!(told.warnings[0].subject, other);
    let error = lab.source.check(&lab.request("job")).await.unwrap_err();
    assert_eq!(error.code(), "source/vm-ambiguous");
}

/// What fails every job of a VM is told by the reader that would meet it, before a job is asked for.
#[tokio::test]
async fn how_a_vm_would_be_read_is_told_and_is_what_a_job_meets() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let base = disk(2000, 0);
    let shapes = [
        (base.clone(), None, Some("flat")),
        (
            DiskShape { format: "sparse".into(), ..base.clone() },
            Some("flat format"),
            Some("sparse"),
        ),
        (DiskShape { format: "se_sparse".into(), ..base.clone() }, Some("VDDK"), Some("se_sparse")),
        (DiskShape { parent: "disk-9.vmdk".into(), ..base.clone() }, Some("delta"), Some("flat")),
        (raw("virtualMode", "persistent"), Some("raw device"), Some("raw")),
        // No reader reads it, so that its other fields tell.
        (raw("physicalMode", "persistent"), None, Some("raw")),
    ];
    let Some(library) = DiskLibrary::make().unwrap() else { return };
    for through_vddk in [false, true] {
        if through_vddk {
            lab.read_through(super::vddk::options(&library)).unwrap();
        }
        for (shape, refused, format) in &shapes {
            let disks = Some(vec![shape.clone(), disk(2001, 1)]);
            lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
            let vm = lab.told().await.unwrap();
            let shown = &vm.disks[0];
            assert_eq!(shown.reader.as_deref(), Some(if through_vddk { "vddk" } else { "https" }));
            assert_eq!(shown.format.as_deref(), *format);
            let refused = refused.filter(|_| !through_vddk);
            let told = shown.refusal.as_deref();
            assert_eq!(told.is_some(), refused.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()), "{told:?}");
            let unread = refused.is_some() || shown.rdm.as_deref() == Some("physical");
            let checked = lab.source.check(&lab.request("job")).await;
            let code = checked.as_ref().err().map(|it| it.code());
            assert_eq!(code, unread.then_some("source/disk-unsupported"), "{shown:?}");
        }
        let told = lab.told().await.unwrap();
        assert_eq!((told.reads_snapshots, told.refusal), (Some(through_vddk), None));
    }
    drop(library);
    let refusal = lab.told().await.unwrap().refusal.unwrap_or_default();
    assert!(refusal.contains("source.vddk.libdir"), "{refusal}");
}

#[tokio::test]
async fn a_vsan_a_lost_host_and_idle_tools_are_told() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let shape = VmShape {
        connection: Some("inaccessible".to_owned()),
        tools: Some("guestToolsNotRunning".to_owned()),
        datastore_type: Some("vsan".to_owned()),
        ..named(&lab.vm)
    };
    lab.peer.shape(&shape).unwrap();
    let vm = lab.told().await.unwrap();
    assert_eq!((vm.connection.as_deref(), vm.quiesced), (Some("inaccessible"), Some(true)));
    assert_eq!(vm.tools.as_deref(), Some("guestToolsNotRunning"));
    assert_eq!(vm.disks[0].datastore_type.as_deref(), Some("vsan"));
    assert!(vm.disks[0].refusal.as_deref().unwrap_or_default().contains("vSAN"));
    let error = lab.source.check(&lab.request("job")).await.unwrap_err();
    assert_eq!(error.code(), "source/disk-unsupported");
    let opened = lab.source.open(&lab.request("job")).await;
    assert_eq!(opened.err().unwrap().code(), "source/disk-unsupported");
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), None);
}

/// A refresh in the middle of a job sees its snapshot, and the delta that stands on it.
#[tokio::test]
async fn a_snapshot_of_ours_makes_no_disk_unreadable() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    let delta = DiskShape { parent: "disk-9.vmdk".into(), ..disk(2000, 0) };
    let disks = Some(vec![delta, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    assert_eq!(lab.told().await.unwrap().disks[0].refusal, None);
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    assert_eq!(lab.told().await.unwrap().disks[0].refusal, None, "it is owed still");
    opened.close().await.unwrap();
    let left = lab.told().await.unwrap().disks[0].refusal.clone().unwrap_or_default();
    assert!(left.contains("delta"), "{left}");
}

/// A person waits for it, and a hub that gives up first would name the VMA.
#[tokio::test]
async fn the_test_of_a_login_names_the_vcenter_that_takes_too_long() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let hasty = options(&lab.peer, &lab.state).unwrap();
    let hasty = VsphereOptions { test_within: Duration::from_millis(1), ..hasty };
    lab.source = VsphereSource::new(hasty).unwrap();
    lab.peer.trouble(&Trouble::once("Login", "hold", "")).unwrap();
    let error = lab.source.test(&lab.credentials()).await.unwrap_err();
    assert_eq!(error.code(), "source/endpoint-unreachable");
    assert!(error.to_string().contains("did not say within"), "{error}");
    lab.peer.calm().unwrap();
}

#[tokio::test]
async fn a_login_is_tested_for_real_and_sent_to_nobody_else() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let tested = lab.source.test(&lab.credentials()).await.unwrap();
    assert!(tested.wanted);
    assert_eq!(tested.about.unwrap().api_type, "VirtualCenter");
    let wrong = Credentials { password: "hunter2".to_owned(), ..lab.credentials() };
    let error = lab.source.test(&wrong).await.unwrap_err();
    assert_eq!(error.code(), "source/login-refused");
    assert!(!error.to_string().contains("hunter2"));
    let elsewhere = Credentials { vcenter: "vc.elsewhere.example".to_owned(), ..lab.credentials() };
    let error = lab.source.test(&elsewhere).await.unwrap_err();
    assert_eq!(error.code(), "source/other-endpoint");
    let none = lab.source.inventory(&DiscoverRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), "source/credentials-missing");
    let own = with_account(&lab.peer, &lab.state).unwrap();
    assert_eq!(own.inventory(&DiscoverRequest::default()).await.unwrap().vms.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_before_a_snapshot_is_taken() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let refused = async |shape: DiskShape, code: &str| {
        let disks = Some(vec![shape, disk(2001, 1)]);
        lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
        let error = lab.source.check(&lab.request("job")).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let opened = lab.source.open(&lab.request("job")).await;
        assert_eq!(opened.err().unwrap().code(), code);
    };
    let base = disk(2000, 0);
    let bad = "source/disk-unsupported";
    refused(DiskShape { mode: "independent_persistent".into(), ..base.clone() }, bad).await;
    refused(raw("physicalMode", "persistent"), bad).await;
    refused(raw("virtualMode", "persistent"), bad).await;
    refused(DiskShape { sharing: "sharingMultiWriter".into(), ..base.clone() }, bad).await;
    refused(DiskShape { bus_sharing: "virtualSharing".into(), ..base.clone() }, bad).await;
    refused(DiskShape { encrypted: true, ..base.clone() }, bad).await;
    refused(DiskShape { parent: "disk-9.vmdk".into(), ..base.clone() }, bad).await;
    refused(DiskShape { capacity: 2 * CAPACITY, ..base.clone() }, "source/capacity-mismatch").await;
    refused(DiskShape { key: 2010, ..base.clone() }, "source/disk-not-found").await;
    let whole = Some(vec![base, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks: whole, ..named(&lab.vm) }).unwrap();
    lab.peer.snapshot(&lab.vm, "theirs").unwrap();
    let error = lab.source.check(&lab.request("job")).await.unwrap_err();
    assert_eq!(error.code(), "source/vm-has-snapshots");
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    lab.peer.shape(&VmShape { template: Some(true), ..named(&lab.vm) }).unwrap();
    let error = lab.source.check(&lab.request("job")).await.unwrap_err();
    assert_eq!(error.code(), "source/vm-unreadable");
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), None);
}
