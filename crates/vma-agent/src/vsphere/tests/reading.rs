//! What is read is what the disk holds, and what is said to have changed is what has.

use hub_vsphere_peer::{AreaPage, Trouble, VmShape};

use super::lab::{CAPACITY, GRAIN, Lab, disk, named};
use crate::source::Changed;

#[tokio::test]
async fn a_disk_is_read_byte_for_byte_through_lost_sessions_and_bad_moments() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let bytes: Vec<u8> = (0..CAPACITY).map(|it| u8::try_from(it * 7 % 251).unwrap()).collect();
    lab.write(1, 0, &bytes).unwrap();
    let opened = lab.open("job").await.unwrap();
    let device = opened.reader(1).await.unwrap();
    assert_eq!((device.size(), device.read_only()), (CAPACITY, true));
    lab.peer.expire_sessions().unwrap();
    lab.peer.trouble(&Trouble::once("folder", "status", "503")).unwrap();
    let mut read = Vec::new();
    let reads =
        (0..8).map(|it| device.read_at(it * CAPACITY / 8, u32::try_from(CAPACITY / 8).unwrap()));
    for part in futures_of(reads).await {
        read.extend_from_slice(&part);
    }
    assert!(read == bytes, "other bytes were read");
    assert!(device.read_at(CAPACITY - 1, 2).await.is_err());
    opened.check_unchanged(1).await.unwrap();
    drop(device);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// All at once, as the copy does.
async fn futures_of<F: Future<Output = Result<bytes::Bytes, hub_block::BlockError>>>(
    all: impl Iterator<Item = F>,
) -> Vec<bytes::Bytes> {
    let mut done = Vec::new();
    for it in all {
        done.push(it.await.unwrap());
    }
    done
}

#[tokio::test]
async fn changed_areas_are_told_from_one_run_to_the_next() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let marks: Vec<_> = first.disks().iter().map(|it| it.change_id.clone().unwrap()).collect();
    assert_ne!(marks[0], marks[1]);
    first.close().await.unwrap();
    lab.write(0, 3 * GRAIN + 5, b"changed").unwrap();
    let second = lab.open("two").await.unwrap();
    let block = 3 * GRAIN..4 * GRAIN;
    assert_eq!(second.changed_since(0, &marks[0]).await, Changed::Areas(vec![block]));
    assert_eq!(second.changed_since(1, &marks[1]).await, Changed::Areas(vec![]));
    for doubtful in [marks[1].as_str(), "", "folder-v1:00", "vsphere-v3|x", "vsphere-v2|x|52 00/1"]
    {
        let answer = second.changed_since(0, doubtful).await;
        assert!(matches!(answer, Changed::Unknown(_)), "{doubtful}: {answer:?}");
    }
    second.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn trap_u17_tracking_that_was_started_anew_is_no_base() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    lab.peer.restart_tracking("52 99 99 99").unwrap();
    let second = lab.open("two").await.unwrap();
    let Changed::Unknown(why) = second.changed_since(0, &mark).await else {
        panic!("it is no base")
    };
    assert!(why.contains("started anew"), "{why}");
}

#[tokio::test]
async fn p7_what_is_doubtful_is_read_in_full() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    let page = |start: i64, length: i64, areas: Vec<(i64, i64)>| AreaPage {
        start,
        length,
        areas,
        fault: String::new(),
    };
    let size = i64::try_from(CAPACITY).unwrap();
    let second = lab.open("two").await.unwrap();
    let fault = AreaPage { fault: "FileFault".to_owned(), ..AreaPage::default() };
    for script in [
        vec![fault],
        vec![page(0, 0, vec![])],
        vec![page(5, size, vec![])],
        vec![page(0, 2 * size, vec![])],
        vec![page(0, size, vec![(size - 1, 2)])],
        vec![page(0, 512, vec![]), page(0, 512, vec![])],
    ] {
        lab.peer.areas(&lab.vm, 2000, &script).unwrap();
        let answer = second.changed_since(0, &mark).await;
        assert!(matches!(answer, Changed::Unknown(_)), "{script:?}: {answer:?}");
    }
    second.close().await.unwrap();
    // Another disk behind the same key is none of the parent's.
    let mut other = disk(2000, 0);
    other.uuid = "6000C29f-other".to_owned();
    let disks = Some(vec![other, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    lab.peer.areas(&lab.vm, 2000, &[]).unwrap();
    let third = lab.open("three").await.unwrap();
    let Changed::Unknown(why) = third.changed_since(0, &mark).await else { panic!("another disk") };
    assert!(why.contains("not what it was"), "{why}");
    third.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// What no discovery can mend must not say that one helps.
#[tokio::test]
async fn a_file_that_is_not_served_says_what_it_may_be_and_what_reads_it() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    for status in ["404", "500"] {
        lab.peer.trouble(&Trouble::once("folder", "status", status)).unwrap();
        let error = opened.reader(0).await.err().unwrap();
        assert_eq!(error.code(), "source/disk-unsupported", "{error}");
        let told = error.to_string();
        for part in [status, "disk-0-flat.vmdk", "vSAN", "lock", "VDDK"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("discovery"), "{told}");
    }
    assert_eq!(opened.reader(0).await.unwrap().size(), CAPACITY);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_somebody_removed_makes_the_copy_worthless() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    opened.check_unchanged(0).await.unwrap();
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    let error = opened.check_unchanged(0).await.unwrap_err();
    assert_eq!(error.code(), "source/changed-while-reading");
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn change_tracking_is_switched_on_where_it_is_safe_and_not_beside_a_snapshot() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("one").await.unwrap();
    assert!(opened.disks().iter().all(|it| it.change_id.is_some()));
    opened.close().await.unwrap();
    assert_eq!(lab.peer.calls().unwrap().get("ReconfigVM_Task"), Some(&1));
    lab.peer
        .shape(&VmShape {
            tracking: Some(false),
            tracking_supported: Some(false),
            ..named(&lab.vm)
        })
        .unwrap();
    let opened = lab.open("two").await.unwrap();
    assert_eq!(lab.peer.calls().unwrap().get("ReconfigVM_Task"), Some(&1));
    opened.close().await.unwrap();
}
