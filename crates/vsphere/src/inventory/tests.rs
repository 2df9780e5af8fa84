//! Decoding of answers: one captured from the simulator, one with what its documentation says of a real host.

use super::*;
use crate::property::decode_batch;
use crate::soap;

fn decoded(xml: &str) -> Vec<Result<Vm, Unreadable>> {
    let document = soap::parse(xml).unwrap();
    let response = soap::response(&document, "RetrievePropertiesEx").unwrap();
    decode_batch(response, &|it| Ok(vm::decode(it))).unwrap().objects
}

#[test]
fn an_answer_of_the_simulator_is_understood() {
    let vm = decoded(include_str!("tests/simulator.xml")).remove(0).unwrap();
    assert_eq!((vm.name.as_str(), vm.moref.value.as_str()), ("DC0_H0_VM0", "vm-57"));
    assert_eq!(vm.instance_uuid.as_deref(), Some("b4689bed-97f0-5bcd-8a4c-07477cc8f06f"));
    assert_eq!((vm.tracking_enabled, vm.tracking_supported), (true, None));
    assert_eq!(vm.parent, Some(MoRef::new("Folder", "folder-3")));
    let [disk] = vm.disks.as_slice() else { panic!("{:?}", vm.disks) };
    assert_eq!((disk.key, disk.capacity_bytes), (2000, 1 << 20));
    assert_eq!(disk.backing.change_id.as_deref(), Some("52 00/3"));
    assert_eq!(disk.controller.as_ref().unwrap().slot(), "scsi0");
    let [adapter] = vm.adapters.as_slice() else { panic!("{:?}", vm.adapters) };
    assert_eq!(adapter.model, "e1000");
    assert!(adapter.network_key.as_deref().unwrap().starts_with("dvportgroup-"));
    assert!(vm.snapshots.is_empty());
}

#[test]
fn an_answer_of_a_real_host_is_understood() {
    let vm = decoded(include_str!("tests/host.xml")).remove(0).unwrap();
    assert_eq!(vm.name, "web/one 100%");
    assert!(vm.encrypted && !vm.tracking_enabled);
    assert_eq!(vm.fault_tolerance.as_deref(), Some("notConfigured"));
    let [delta, raw, tomorrow] = vm.disks.as_slice() else { panic!("{:?}", vm.disks) };
    assert_eq!(delta.capacity_bytes, 109_521_666_048);
    assert_eq!(delta.used_bytes, Some(1524));
    assert_eq!(delta.backing.datastore_name(), Some("ds 1"));
    assert_eq!(delta.backing.parent.as_deref(), Some("[ds 1] web/web.vmdk"));
    let change_id = "52 3a 4e 0c 11 22 33 44-55 66 77 88 99 aa bb cc/7";
    assert_eq!(delta.backing.change_id.as_deref(), Some(change_id));
    assert_eq!((&raw.backing.kind, raw.capacity_bytes), (&BackingKind::RawVirtual, 1024));
    assert_eq!(raw.controller.as_ref().unwrap().slot(), "nvme0");
    assert!(raw.backing.is_independent());
    let unknown = BackingKind::Other("VirtualDiskTomorrowVer9BackingInfo".to_owned());
    assert_eq!((&tomorrow.backing.kind, tomorrow.capacity_bytes), (&unknown, 512));
    assert_eq!((tomorrow.controller.as_ref(), tomorrow.used_bytes), (None, None));
    let [opaque, later] = vm.adapters.as_slice() else { panic!("{:?}", vm.adapters) };
    assert_eq!(opaque.network_key.as_deref(), Some("8c9f"));
    assert_eq!(
        (later.model.as_str(), later.network.as_deref()),
        ("VirtualTomorrowCard", Some("VM Network"))
    );
}

#[test]
fn trap_d1_a_vm_whose_devices_are_not_shown_is_no_vm_without_disks() {
    let all = decoded(include_str!("tests/host.xml"));
    let reasons: Vec<_> = all.into_iter().skip(1).map(|it| it.unwrap_err().reason).collect();
    assert_eq!(
        reasons,
        [
            "the account lacks the privilege System.Read on it",
            "it is inaccessible, so the server does not know its configuration",
            "disk `Hard disk 1` has no capacity",
        ]
    );
}

#[test]
fn snapshots_that_are_not_shown_are_not_taken_for_none() {
    let fault = "<missingSet><path>snapshot</path><fault><fault xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:type=\"HostCommunication\"/><localizedMessage>The host is silent</localizedMessage></fault></missingSet></objects>";
    let xml = include_str!("tests/simulator.xml").replace("</objects>", fault);
    let unreadable = decoded(&xml).remove(0).unwrap_err();
    assert!(unreadable.reason.starts_with("its snapshots cannot be read"), "{unreadable:?}");
}

#[test]
fn escaped_names_are_read_as_people_wrote_them() {
    for (spelled, name) in
        [("a%2fb", "a/b"), ("100%25", "100%"), ("%5C%", "\\%"), ("%é%2", "%é%2"), ("", "")]
    {
        assert_eq!(places::unescaped(spelled), name);
    }
}
