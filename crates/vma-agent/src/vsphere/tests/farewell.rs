//! A snapshot goes when nobody reads it any more: a host that has a disk open cannot merge it.

use anyhow::Result;
use hub_vsphere_peer::{DiskLibrary, Trouble};

use super::lab::Lab;
use super::vddk::{readers, start};
use crate::doubles::until;

/// A lab whose disks take their time to close.
async fn slow() -> Result<Option<(Lab, DiskLibrary)>> {
    let Some((lab, library, mut orders)) = start().await? else { return Ok(None) };
    orders.push("slow close".to_owned());
    library.script(&orders)?;
    Ok(Some((lab, library)))
}

/// Waits until the removal of a snapshot is asked for, and says who reads at that moment.
async fn at_removal(lab: &Lab, library: &DiskLibrary) -> Result<Vec<(i32, String)>> {
    until("a removal is asked for", || lab.peer.holds().unwrap_or_default() > 0).await?;
    let left = readers(library.directory());
    lab.peer.go_on()?;
    Ok(left)
}

#[tokio::test]
async fn p3_a_snapshot_is_removed_when_its_readers_have_left_the_host() {
    let Some((lab, library)) = slow().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    let device = opened.reader(0).await.unwrap();
    lab.peer.trouble(&Trouble::once("RemoveSnapshot_Task", "hold", "")).unwrap();
    drop(device);
    let (closed, left) = tokio::join!(opened.close(), at_removal(&lab, &library));
    closed.unwrap();
    assert!(left.as_ref().unwrap().is_empty(), "{left:?}");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p3_so_is_one_that_is_dropped_with_its_readers() {
    let Some((lab, library)) = slow().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    let both = [opened.reader(0).await.unwrap(), opened.reader(1).await.unwrap()];
    lab.peer.trouble(&Trouble::once("RemoveSnapshot_Task", "hold", "")).unwrap();
    drop(opened);
    drop(both);
    let left = at_removal(&lab, &library).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    lab.nothing_is_left().await.unwrap();
}
