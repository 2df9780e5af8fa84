//! Snapshots, change tracking, tasks that fail or never end, and changed areas.

use std::os::unix::fs::FileExt as _;

use hub_vsphere::{BadAreas, ClientOptions, MoRef, VsphereError};
use hub_vsphere_peer::{AreaPage, Trouble};

use crate::lab::{CAPACITY, first, hasty, lab, options, tracked, vm};

#[tokio::test]
async fn a_snapshot_comes_and_goes_and_removing_it_twice_is_fine() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let vm = MoRef::vm(tracked(&peer, &name).unwrap().id);
    let taken = client.create_snapshot(&vm, "job <1>", "for & by", true).await.unwrap();
    let live = peer.snapshots().unwrap();
    assert_eq!((live[0].name.as_str(), live[0].quiesced), ("job <1>", true));
    assert_eq!(live[0].id, taken.value);
    let disks = client.snapshot_disks(&taken).await.unwrap().unwrap();
    assert!(disks.iter().all(|it| it.backing.change_id.is_some()), "{disks:?}");
    client.remove_snapshot(&taken).await.unwrap();
    assert!(peer.snapshots().unwrap().is_empty());
    client.remove_snapshot(&taken).await.unwrap();
    assert!(client.snapshot_disks(&taken).await.unwrap().is_none());
}

#[tokio::test]
async fn change_tracking_is_switched_on() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let id = peer.vms().unwrap().into_values().next().unwrap();
    assert!(!vm(&client, &id).await.unwrap().tracking_enabled);
    client.enable_change_tracking(&MoRef::vm(&id)).await.unwrap();
    assert!(vm(&client, &id).await.unwrap().tracking_enabled);
}

#[tokio::test]
async fn a_guest_that_does_not_come_to_rest_is_snapshotted_as_it_is_and_that_is_told() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let vm = MoRef::vm(peer.vms().unwrap().into_values().next().unwrap());
    let mut trouble = Trouble::once("CreateSnapshot_Task", "task_fault", "ApplicationQuiesceFault");
    trouble.containing = "<quiesce>true</quiesce>".to_owned();
    peer.trouble(&trouble).unwrap();
    let (_, why) = client.create_quiesced_snapshot(&vm, "one", "").await.unwrap();
    assert!(why.unwrap().0.contains("Quiesce"));
    assert!(!peer.snapshots().unwrap()[0].quiesced);
    let (_, why) = client.create_quiesced_snapshot(&vm, "two", "").await.unwrap();
    assert_eq!(why, None);
    peer.trouble(&Trouble::once("CreateSnapshot_Task", "task_fault", "NoDiskSpace")).unwrap();
    let error = client.create_quiesced_snapshot(&vm, "three", "").await.unwrap_err();
    assert_eq!(error.fault().map(|it| it.kind.as_str()), Some("NoDiskSpace"));
    assert!(error.to_string().contains("make room"), "{error}");
}

#[tokio::test]
async fn a_task_that_never_ends_is_given_up_and_a_snapshot_is_not_asked_for_twice() {
    let Some((peer, _)) = lab().await.unwrap() else { return };
    let task = std::time::Duration::from_millis(400);
    let client = hasty(&peer, ClientOptions { task, ..options() }).await.unwrap();
    let vm = MoRef::vm(peer.vms().unwrap().into_values().next().unwrap());
    assert!(!client.is_taking_snapshot(&vm).await.unwrap());
    peer.trouble(&Trouble::once("CreateSnapshot_Task", "stuck", "")).unwrap();
    let error = client.create_snapshot(&vm, "one", "", false).await.unwrap_err();
    assert!(matches!(error, VsphereError::TaskStuck { .. }), "{error}");
    assert!(client.is_taking_snapshot(&vm).await.unwrap(), "it may come yet");
    for kind in ["cut", "status"] {
        peer.trouble(&Trouble::once("CreateSnapshot_Task", kind, "503")).unwrap();
        let error = client.create_snapshot(&vm, "two", "", false).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(peer.calls().unwrap().get("CreateSnapshot_Task"), Some(&3));
    peer.expire_sessions().unwrap();
    client.create_snapshot(&vm, "three", "", false).await.unwrap();
    assert_eq!(
        peer.snapshots().unwrap().len(),
        1,
        "a lost session did nothing, so it is asked again"
    );
}

#[tokio::test]
async fn trap_u4_changed_areas_are_paged_to_the_end_and_true() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let shaped = tracked(&peer, &name).unwrap();
    let vm = MoRef::vm(&shaped.id);
    let old = client.create_snapshot(&vm, "old", "", false).await.unwrap();
    let disk = client.snapshot_disks(&old).await.unwrap().unwrap().remove(0);
    let since = disk.backing.change_id.clone().unwrap();
    client.remove_snapshot(&old).await.unwrap();
    let file = std::fs::File::options().write(true).open(&shaped.files[0]).unwrap();
    for at in [0_u64, 5, 6, 20, 63] {
        file.write_all_at(b"changed", at * 65536 + 17).unwrap();
    }
    peer.page_size(1).unwrap();
    let new = client.create_snapshot(&vm, "new", "", false).await.unwrap();
    let disk = client.snapshot_disks(&new).await.unwrap().unwrap().remove(0);
    assert_ne!(disk.backing.change_id.as_ref(), Some(&since));
    let areas = client.changed_areas(&vm, &new, &disk, &since).await.unwrap().unwrap();
    let block = |from: u64, to: u64| from * 65536..to * 65536;
    assert_eq!(areas, [block(0, 1), block(5, 7), block(20, 21), block(63, 64)]);
    assert_eq!(client.changed_areas(&vm, &new, &disk, "*").await.unwrap().unwrap(), areas);
    for bad in ["", "52 00/99", "nonsense"] {
        let error = client.changed_areas(&vm, &new, &disk, bad).await.unwrap_err();
        assert_eq!(error.fault().map(|it| it.kind.as_str()), Some("InvalidArgument"));
    }
}

#[tokio::test]
async fn trap_u6_what_a_lying_server_says_of_changes_is_refused() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let vm = MoRef::vm(tracked(&peer, &name).unwrap().id);
    let snapshot = client.create_snapshot(&vm, "one", "", false).await.unwrap();
    let disk = client.snapshot_disks(&snapshot).await.unwrap().unwrap().remove(0);
    let size = i64::try_from(CAPACITY).unwrap();
    let page = |start: i64, length: i64, areas: &[(i64, i64)]| AreaPage {
        start,
        length,
        areas: areas.to_vec(),
        fault: String::new(),
    };
    let cases = [
        (vec![page(0, 0, &[])], BadAreas::NoProgress(0)),
        (vec![page(7, size - 7, &[])], BadAreas::WrongStart { asked: 0, found: 7 }),
        (vec![page(0, size + 1, &[])], BadAreas::BeyondEnd),
        (vec![page(0, size, &[(1, 0)])], BadAreas::Outside { start: 1, length: 0 }),
        (vec![page(0, size, &[(size, 9)])], BadAreas::Outside { start: size, length: 9 }),
        (vec![page(0, 512, &[])], BadAreas::WrongStart { asked: 512, found: 0 }),
    ];
    for (pages, expected) in cases {
        peer.areas(&name, disk.key, &pages).unwrap();
        let answered = client.changed_areas(&vm, &snapshot, &disk, "x").await.unwrap();
        assert_eq!(answered, Err(expected));
    }
    let odd = [page(0, 4096, &[(1024, 512), (0, 512), (1024, 1024)]), page(4096, size - 4096, &[])];
    peer.areas(&name, disk.key, &odd).unwrap();
    let answered = client.changed_areas(&vm, &snapshot, &disk, "x").await.unwrap();
    assert_eq!(answered, Ok(vec![0..512, 1024..2048]));
}

#[tokio::test]
async fn a_removal_whose_task_is_forgotten_is_not_taken_for_done() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let vm = MoRef::vm(peer.vms().unwrap().into_values().next().unwrap());
    let taken = client.create_snapshot(&vm, "one", "", false).await.unwrap();
    // A vCenter that was restarted does not know the tasks of before.
    peer.trouble(&Trouble::once("RemoveSnapshot_Task", "stuck", "")).unwrap();
    let mut forgotten = Trouble::once("RetrievePropertiesEx", "fault", "ManagedObjectNotFound");
    forgotten.containing = "info.result".to_owned();
    peer.trouble(&forgotten).unwrap();
    let error = client.remove_snapshot(&taken).await.unwrap_err();
    assert!(matches!(error, VsphereError::NotFound(_)), "{error}");
    assert_eq!(peer.snapshots().unwrap().len(), 1);
    peer.trouble(&forgotten).unwrap();
    client.remove_snapshot(&taken).await.unwrap();
    assert!(peer.snapshots().unwrap().is_empty());
}

/// Trap U6: a server that keeps the deadline of each call, and none for all of them.
#[tokio::test]
async fn trap_u6_answers_about_changes_that_take_too_long_together_are_given_up() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let vm = MoRef::vm(tracked(&peer, &name).unwrap().id);
    let snapshot = client.create_snapshot(&vm, "one", "", false).await.unwrap();
    let disk = client.snapshot_disks(&snapshot).await.unwrap().unwrap().remove(0);
    let crawling = |at: i64| AreaPage { start: at << 16, length: 1 << 16, ..AreaPage::default() };
    peer.areas(&name, disk.key, &(0..20).map(crawling).collect::<Vec<_>>()).unwrap();
    let asked = || peer.calls().unwrap().get("QueryChangedDiskAreas").copied().unwrap_or_default();
    peer.trouble(&Trouble { skip: 3, ..Trouble::once("QueryChangedDiskAreas", "hold", "") })
        .unwrap();
    let within = std::time::Duration::from_millis(300);
    let hasty = hasty(&peer, ClientOptions { areas: within, ..options() }).await.unwrap();
    let answered = hasty.changed_areas(&vm, &snapshot, &disk, "x").await.unwrap();
    assert_eq!(answered, Err(BadAreas::TooSlow(within)));
    assert!(asked() <= 4, "it was asked on and on");
    peer.calm().unwrap();
}
