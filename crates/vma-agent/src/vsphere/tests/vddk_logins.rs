//! Logins that VDDK makes: each that is refused is made once.

use hub_vsphere_peer::DiskLibrary;

use super::vddk::{options, start, told};
use crate::source::Source as _;
use crate::vsphere::VddkOptions;

fn connects(library: &DiskLibrary) -> usize {
    library.calls().unwrap().iter().filter(|it| it.starts_with("connect ")).count()
}

#[tokio::test]
async fn a_login_that_vddk_is_refused_is_made_once_whatever_waits_for_it() {
    let Some((mut lab, library, orders)) = start().await.unwrap() else { return };
    lab.read_through(VddkOptions { retries: 4, ..options(&library) }).unwrap();
    let other = [vec!["password other".to_owned()], orders.clone()].concat();
    library.script(&other).unwrap();
    let opened = lab.open("job").await.unwrap();
    assert_eq!(opened.reader(0).await.err().unwrap().code(), "source/vddk-failed");
    let error = opened.reader(1).await.err().unwrap();
    assert_eq!((error.code(), connects(&library)), ("source/login-refused", 1), "{error}");
    assert!(error.to_string().contains("test the credentials"), "{error}");
    opened.close().await.unwrap();
    let error = lab.source.check(&lab.request("next")).await.unwrap_err();
    assert_eq!(error.code(), "source/login-refused", "no snapshot is taken for nothing");

    lab.source.test(&lab.credentials()).await.unwrap();
    library.script(&orders).unwrap();
    let opened = lab.open("next").await.unwrap();
    let device = opened.reader(0).await.unwrap();
    // The password is changed while a disk is read, and the connection to the host is lost.
    let lost = "fail read NFC_NETWORK_ERROR".to_owned();
    library.script(&[vec![lost], other].concat()).unwrap();
    let error = told(&device.read_at(0, 512).await.unwrap_err());
    assert!(error.contains("the server refuses the login"), "{error}");
    told(&device.read_at(0, 512).await.unwrap_err());
    assert_eq!(connects(&library), 3, "of the second connection one login");
    drop(device);
    assert_eq!(opened.reader(1).await.err().unwrap().code(), "source/login-refused");
    assert_eq!(connects(&library), 3);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn disks_that_open_at_once_are_refused_by_one_login() {
    let Some((mut lab, library, orders)) = start().await.unwrap() else { return };
    lab.read_through(options(&library)).unwrap();
    let opened = lab.open("job").await.unwrap();
    library.script(&[vec!["password other".to_owned()], orders.clone()].concat()).unwrap();
    let (one, other) = tokio::join!(opened.reader(0), opened.reader(1));
    let mut codes = [one, other].map(|it| it.err().map(|it| it.code()).unwrap_or_default());
    codes.sort_unstable();
    assert_eq!(codes, ["source/login-refused", "source/vddk-failed"]);
    assert_eq!(connects(&library), 1, "an account is locked by repetition");
    opened.close().await.unwrap();
    lab.source.test(&lab.credentials()).await.unwrap();
    library.script(&orders).unwrap();
    let opened = lab.open("next").await.unwrap();
    let (one, other) = tokio::join!(opened.reader(0), opened.reader(1));
    assert!(one.is_ok() && other.is_ok());
    drop((one, other));
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_privilege_that_one_vm_lacks_keeps_nobody_from_another_vm() {
    let Some((mut lab, library, orders)) = start().await.unwrap() else { return };
    lab.read_through(options(&library)).unwrap();
    let vm = lab.peer.vms().unwrap().into_keys().find(|it| *it != lab.vm).unwrap();
    let other = lab.another(&vm, 13).unwrap();
    for (said, of_another) in [
        ("Insufficient permissions in the host operating system", Ok(())),
        (
            "Cannot complete login due to an incorrect user name or password",
            Err("source/login-refused"),
        ),
    ] {
        let refused = vec![format!("fail connect {said}")];
        library.script(&[refused, orders.clone()].concat()).unwrap();
        let opened = lab.open("job").await.unwrap();
        assert_eq!(opened.reader(0).await.err().unwrap().code(), "source/vddk-failed");
        opened.close().await.unwrap();
        let same = lab.source.check(&lab.request("next")).await.unwrap_err();
        assert_eq!(same.code(), "source/login-refused", "{said}");
        let asked = lab.source.check(&lab.request_of(&other.id, "other")).await;
        assert_eq!(asked.map_err(|it| it.code()), of_another, "{said}");
        lab.source.test(&lab.credentials()).await.unwrap();
    }
    lab.source.check(&lab.request("next")).await.unwrap();
}
