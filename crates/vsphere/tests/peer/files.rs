//! Datastore files by ranges.

use std::os::unix::fs::FileExt as _;

use hub_vsphere::{DatastoreFile, VsphereError};
use hub_vsphere_peer::Trouble;

use crate::lab::{CAPACITY, first, lab, tracked};

#[tokio::test]
async fn a_file_is_read_by_ranges_with_the_session() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    let shaped = tracked(&peer, &name).unwrap();
    let bytes: Vec<u8> = (0..CAPACITY).map(|it| u8::try_from(it % 251).unwrap()).collect();
    let made = std::fs::File::options().write(true).open(&shaped.files[0]).unwrap();
    made.write_all_at(&bytes, 0).unwrap();
    let disk = format!("[LocalDS_0] {name}/disk-0.vmdk");
    let file = DatastoreFile::flat_of("DC0", &disk).unwrap();
    assert_eq!(client.file_size(&file).await.unwrap(), CAPACITY);
    for (offset, length) in [(0, 1), (1000, 70_000), (CAPACITY - 5, 5)] {
        let from = usize::try_from(offset).unwrap();
        let to = from + usize::try_from(length).unwrap();
        let read = client.read_file(&file, offset, length).await.unwrap();
        assert_eq!(read, &bytes[from..to]);
    }
    peer.expire_sessions().unwrap();
    assert_eq!(client.read_file(&file, 0, 9).await.unwrap(), &bytes[..9]);
    peer.trouble(&Trouble::once("folder", "status", "503")).unwrap();
    peer.trouble(&Trouble::once("folder", "cut", "")).unwrap();
    assert_eq!(client.read_file(&file, 0, 9).await.unwrap(), &bytes[..9]);
}

#[tokio::test]
async fn other_bytes_than_those_asked_for_are_refused() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    tracked(&peer, &name).unwrap();
    let disk = format!("[LocalDS_0] {name}/disk-0.vmdk");
    let file = DatastoreFile::flat_of("DC0", &disk).unwrap();
    for kind in ["short", "whole"] {
        peer.trouble(&Trouble::once("folder", kind, "")).unwrap();
        let error = client.read_file(&file, 0, 4096).await.unwrap_err();
        assert!(matches!(error, VsphereError::Garbled { .. }), "{kind}: {error}");
    }
    assert!(client.read_file(&file, CAPACITY - 5, 6).await.is_err(), "beyond the end");
    let gone = DatastoreFile { path: "none-flat.vmdk".to_owned(), ..file.clone() };
    let error = client.read_file(&gone, 0, 1).await.unwrap_err();
    assert!(matches!(error, VsphereError::FileRefused { status: 404, .. }), "{error}");
    let elsewhere = DatastoreFile { datastore: "none".to_owned(), ..file.clone() };
    let error = client.file_size(&elsewhere).await.unwrap_err();
    assert!(matches!(error, VsphereError::FileRefused { status: 404, .. }), "{error}");
    peer.trouble(&Trouble::once("folder", "status", "500")).unwrap();
    let error = client.file_size(&file).await.unwrap_err();
    assert!(matches!(error, VsphereError::FileRefused { status: 500, .. }), "{error}");
    assert!(error.to_string().contains("disk-0-flat.vmdk"), "{error}");
}
