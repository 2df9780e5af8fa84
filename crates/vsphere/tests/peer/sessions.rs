//! Login, trust, and what happens when sessions end or the server has a bad day.

use std::time::Duration;

use hub_vsphere::{DatastoreFile, Trust, VsphereError};
use hub_vsphere_peer::{PeerOptions, Trouble, VspherePeer};

use crate::lab::{client, connect, first, lab, lab_with, list, tracked, vm};

#[tokio::test]
async fn the_server_proves_itself_by_an_authority_or_by_its_thumbprint() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    client(&peer).await.unwrap().log_out().await.unwrap();
    let pinned = Trust::Thumbprint(peer.thumbprint());
    connect(&peer, &pinned, peer.password()).await.unwrap().log_out().await.unwrap();
}

#[tokio::test]
async fn trap_c28_another_certificate_is_refused_before_the_password_is_sent() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    let Some(other) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    let thumbprint = |it: [u8; 32]| it.map(|byte| format!("{byte:02X}")).join(":");
    for trust in [
        Trust::System,
        Trust::Authority(other.authority().to_owned()),
        Trust::Thumbprint(other.thumbprint()),
    ] {
        let error = connect(&peer, &trust, peer.password()).await.unwrap_err();
        let VsphereError::Untrusted { seen, .. } = &error else { panic!("{trust:?}: {error}") };
        let reason = if matches!(trust, Trust::Thumbprint(_)) { "pinned" } else { "authorities" };
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(*seen, thumbprint(peer.thumbprint()), "what to compare is said");
        assert_eq!(Trust::thumbprint(seen).unwrap(), Trust::Thumbprint(peer.thumbprint()));
    }
    assert!(peer.calls().unwrap().is_empty(), "nothing was asked of it");
}

#[tokio::test]
async fn a_wrong_password_is_told_from_everything_else_and_not_repeated() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    let trust = Trust::Authority(peer.authority().to_owned());
    let error = connect(&peer, &trust, "hunter2").await.unwrap_err();
    assert!(matches!(error, VsphereError::LoginRefused { .. }), "{error}");
    let said = format!("{error} {error:?}");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(peer.calls().unwrap().get("Login"), Some(&1), "an account is locked by repetition");
}

#[tokio::test]
async fn a_vcenter_and_a_host_say_what_they_are() {
    let Some((_peer, vcenter)) = lab().await.unwrap() else { return };
    assert!(!vcenter.about().is_host());
    assert!(vcenter.about().instance_uuid.is_some());
    let esxi = PeerOptions { esxi: true, ..PeerOptions::default() };
    let Some((_peer, host)) = lab_with(esxi).await.unwrap() else { return };
    assert!(host.about().is_host());
    assert_eq!(list(&host).await.unwrap().vms.len(), 1);
}

#[tokio::test]
async fn a_session_that_has_ended_is_renewed_and_no_vm_is_lost() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let before = list(&client).await.unwrap().vms;
    assert_eq!(before.len(), 2);
    peer.expire_sessions().unwrap();
    assert_eq!(list(&client).await.unwrap().vms, before);
    let mut pages = client.list_vms().await.unwrap();
    peer.expire_sessions().unwrap();
    let page = pages.next_page().await.unwrap().unwrap();
    assert_eq!(page.vms, before, "an answer of success without properties is no empty VM");
    peer.expire_sessions().unwrap();
    client.keep_alive().await.unwrap();
    assert_eq!(peer.calls().unwrap().get("Login"), Some(&4));
}

/// The id of a vCenter that is a copy of the peer.
const COPY: &str = "0c0b1a52-0000-4000-8000-00000000c0b1";

#[tokio::test]
async fn trap_u15_a_session_is_not_renewed_at_another_vcenter_of_the_same_name() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let known = client.about().instance_uuid.clone().unwrap();
    for other in [COPY, ""] {
        peer.become_another(other).unwrap();
        let (one, two) = tokio::join!(list(&client), client.keep_alive());
        for error in [one.err().unwrap(), two.err().unwrap()] {
            let VsphereError::OtherServer { known: had, found, .. } = &error else {
                panic!("{error}")
            };
            let named = if other.is_empty() { "none" } else { other };
            assert_eq!((had, found.as_str()), (&known, named));
            assert!(!error.is_transient());
        }
    }
    assert_eq!(peer.calls().unwrap()["Login"], 1, "the password goes to nobody else");
    peer.become_another(&known).unwrap();
    assert_eq!(list(&client).await.unwrap().vms.len(), 2, "the first one is there again");
}

#[tokio::test]
async fn trap_u15_a_file_is_not_read_at_another_vcenter_of_the_same_name() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let name = first(&peer).unwrap();
    tracked(&peer, &name).unwrap();
    let it = vm(&client, peer.vms().unwrap().get(&name).unwrap()).await.unwrap();
    let file_name = &it.disks.first().unwrap().backing.file_name;
    let file = DatastoreFile::flat_of("DC0", file_name).unwrap();
    assert_eq!(client.read_file(&file, 0, 512).await.unwrap().len(), 512);
    peer.become_another(COPY).unwrap();
    let error = client.read_file(&file, 0, 512).await.unwrap_err();
    assert!(matches!(error, VsphereError::OtherServer { .. }), "{error}");
}

#[tokio::test]
async fn trap_u15_a_login_that_lands_at_another_vcenter_is_ended_there() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    peer.trouble(&Trouble::once("Login", "hold", "")).unwrap();
    let moves = async {
        while peer.holds().unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        peer.become_another(COPY).unwrap();
        peer.go_on().unwrap();
    };
    let (connected, ()) = tokio::join!(client(&peer), moves);
    let error = connected.err().unwrap().downcast::<VsphereError>().unwrap();
    assert!(matches!(error, VsphereError::OtherServer { .. }), "{error}");
    assert_eq!(peer.calls().unwrap().get("Logout"), Some(&1), "no session is left open there");
}

#[tokio::test]
async fn many_callers_renew_a_session_once() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    peer.expire_sessions().unwrap();
    let (one, two, three) = tokio::join!(list(&client), list(&client), client.keep_alive());
    assert_eq!((one.unwrap().vms.len(), two.unwrap().vms.len()), (2, 2));
    three.unwrap();
    assert_eq!(peer.calls().unwrap().get("Login"), Some(&2));
}

#[tokio::test]
async fn a_server_that_ends_every_session_is_named_and_not_asked_for_ever() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let mut lost = Trouble::once("RetrievePropertiesEx", "fault", "NotAuthenticated");
    lost.times = 0;
    peer.trouble(&lost).unwrap();
    let error = client.keep_alive().await.unwrap_err();
    assert!(matches!(error, VsphereError::SessionLost(_)), "{error}");
    assert_eq!(peer.calls().unwrap().get("Login"), Some(&2));
}

#[tokio::test]
async fn reads_outlive_a_bad_moment_and_a_bad_day_is_told() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    peer.trouble(&Trouble::once("CreateContainerView", "status", "503")).unwrap();
    peer.trouble(&Trouble::once("RetrievePropertiesEx", "cut", "")).unwrap();
    assert_eq!(list(&client).await.unwrap().vms.len(), 2);
    let mut down = Trouble::once("CreateContainerView", "status", "503");
    down.times = 0;
    peer.trouble(&down).unwrap();
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, VsphereError::Unavailable { status: 503, .. }), "{error}");
    assert!(error.is_transient());
    peer.calm().unwrap();
    peer.trouble(&Trouble::once("CreateContainerView", "fault", "NoPermission")).unwrap();
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, VsphereError::Fault { .. } | VsphereError::NotPermitted { .. }));
}

#[tokio::test]
async fn an_address_without_a_server_is_unreachable() {
    let Some(peer) = VspherePeer::start(PeerOptions::default()).unwrap() else { return };
    let (authority, address) = (peer.authority().to_owned(), peer.address().to_owned());
    let endpoint = hub_vsphere::Endpoint::parse(&address).unwrap();
    let login = hub_vsphere::Login { username: "u".into(), password: "p".to_owned().into() };
    drop(peer);
    let trust = Trust::Authority(authority);
    let gone = hub_vsphere::Client::connect(endpoint, &trust, login, crate::lab::options());
    let error = gone.await.unwrap_err();
    assert!(matches!(error, VsphereError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_view_that_ended_with_its_session_is_no_empty_inventory() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    let view = Trouble {
        containing: "<pathSet>view</pathSet>".to_owned(),
        ..Trouble::once("RetrievePropertiesEx", "hold", "")
    };
    peer.trouble(&view).unwrap();
    let ends = async {
        while !peer.calls().unwrap().contains_key("RetrievePropertiesEx") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        peer.expire_sessions().unwrap();
        peer.go_on().unwrap();
    };
    let (listed, ()) = tokio::join!(list(&client), ends);
    assert_eq!(listed.unwrap().vms.len(), 2);
    let mut gone = view;
    gone.kind = "fault".to_owned();
    gone.value = "ManagedObjectNotFound".to_owned();
    gone.times = 0;
    peer.trouble(&gone).unwrap();
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, VsphereError::SessionLost(_)), "{error}");
}

#[tokio::test]
async fn a_password_that_is_refused_at_a_renewal_is_not_tried_again() {
    let Some((peer, client)) = lab().await.unwrap() else { return };
    for fault in ["InvalidLogin", "PasswordExpired"] {
        let client = if fault == "InvalidLogin" {
            &client
        } else {
            &crate::lab::client(&peer).await.unwrap()
        };
        let before = peer.calls().unwrap()["Login"];
        peer.expire_sessions().unwrap();
        let mut changed = Trouble::once("Login", "fault", fault);
        changed.times = 0;
        peer.trouble(&changed).unwrap();
        let (one, two, three) = tokio::join!(list(client), list(client), client.keep_alive());
        for error in [one.err(), two.err(), three.err(), client.keep_alive().await.err()] {
            let error = error.unwrap();
            assert!(matches!(error, VsphereError::LoginRefused { .. }), "{error}");
        }
        let tried = peer.calls().unwrap()["Login"] - before;
        assert_eq!(tried, 1, "an account is locked by repetition");
        peer.calm().unwrap();
    }
}
