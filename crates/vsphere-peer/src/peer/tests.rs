//! The peer itself: it starts, obeys, and leaves nothing behind.

use super::*;
use crate::{DiskShape, VmShape};

#[test]
fn it_obeys_and_ends_with_its_owner() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    let vms = peer.vms().unwrap();
    assert_eq!(vms.len(), 2, "{vms:?}");
    let name = vms.keys().next().unwrap().clone();
    let disk = DiskShape {
        key: 2000,
        file: "data.vmdk".to_owned(),
        capacity: 1 << 20,
        uuid: "6000C290-0000".to_owned(),
        ..DiskShape::default()
    };
    let shape = VmShape { vm: name.clone(), disks: Some(vec![disk]), ..VmShape::default() };
    let shaped = peer.shape(&shape).unwrap();
    assert_eq!(vms.get(&name), Some(&shaped.id));
    assert_eq!(std::fs::metadata(shaped.files.first().unwrap()).unwrap().len(), 1 << 20);
    assert!(peer.snapshots().unwrap().is_empty());
    peer.snapshot(&name, "theirs").unwrap();
    assert_eq!(peer.snapshots().unwrap().first().unwrap().name, "theirs");
    peer.unregister(&name).unwrap();
    assert!(!peer.vms().unwrap().contains_key(&name));
    assert_eq!(peer.snapshots().unwrap().first().unwrap().name, "theirs", "among its files");
    peer.register(&name).unwrap();
    assert_ne!(peer.vms().unwrap().get(&name), Some(&shaped.id));
    peer.remove_snapshots(&name).unwrap();
    assert!(peer.snapshots().unwrap().is_empty());
    peer.destroy(&name).unwrap();
    assert_eq!(peer.vms().unwrap().len(), 1);
    assert!(peer.shape(&shape).is_err(), "the VM is gone");
    let (process, store) = (format!("/proc/{}", peer.id()), shaped.files.first().unwrap().clone());
    assert!(Path::new(&process).exists());
    drop(peer);
    assert!(!Path::new(&process).exists());
    assert!(!store.exists());
}

#[test]
fn a_standalone_host_has_its_own_vms() {
    let options = PeerOptions { esxi: true, vms: 3, datacenters: 1 };
    let Some(peer) = VspherePeer::start(options).unwrap() else { return };
    assert_eq!(peer.vms().unwrap().len(), 3);
}
