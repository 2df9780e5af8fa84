//! What is made once, what is made anew, and what a start that was cut off leaves.

use std::os::unix::fs::PermissionsExt;

use chrono::{Days, TimeZone, Utc};

use super::*;

fn at(year: i32) -> Timestamp {
    Utc.with_ymd_and_hms(year, 3, 1, 12, 0, 0).unwrap()
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

fn open(data_dir: &Path, names: &[&str], now: Timestamp) -> Result<NbdCertificates> {
    NbdCertificates::open(data_dir, &hosts(names), now)
}

fn server_file(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join(PLACE).join(SERVER)).unwrap()
}

#[test]
fn the_authority_is_made_once_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), &["10.0.0.7"], at(2030)).unwrap();
    let server = server_file(folder.path());
    let again = open(folder.path(), &["10.0.0.7"], at(2030)).unwrap();
    assert_eq!((&again.authority, &again.server_name), (&first.authority, &first.server_name));
    assert_eq!(server_file(folder.path()), server, "nothing is made anew without need");
    for name in [AUTHORITY, AUTHORITY_KEY, SERVER] {
        let mode = fs::metadata(folder.path().join(PLACE).join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path(), &[], at(2030)).unwrap().fingerprint, first.fingerprint);
}

#[test]
fn a_new_address_or_a_near_end_makes_the_certificate_anew_and_not_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), &["10.0.0.7"], at(2030)).unwrap();
    let mut before = server_file(folder.path());
    for (names, now) in [
        (vec!["hub.example"], at(2030)),
        (vec!["hub.example"], at(2030) + Days::new(2 * 365 - 100)),
        (vec!["hub.example"], at(2050)),
    ] {
        let again = open(folder.path(), &names, now).unwrap();
        assert_eq!(again.fingerprint, first.fingerprint);
        let after = server_file(folder.path());
        assert_ne!(after, before, "{names:?} {now}");
        assert!(issuing::is_good(&first.authority, &after, &again.names, now));
        before = after;
    }
    let running = open(folder.path(), &["hub.example"], at(2050)).unwrap();
    assert!(!running.renew_if_due(at(2050)).unwrap());
    assert!(running.renew_if_due(at(2052)).unwrap());
    assert!(!running.renew_if_due(at(2052)).unwrap());
    // A start makes one that is lost or torn anew, and so does a hub that runs.
    let path = folder.path().join(PLACE).join(SERVER);
    fs::remove_file(&path).unwrap();
    assert!(running.renew_if_due(at(2052)).unwrap());
    fs::write(&path, [0xFF]).unwrap();
    assert!(running.renew_if_due(at(2052)).unwrap());
    assert!(!running.renew_if_due(at(2052)).unwrap());
}

/// A renewal is over when the port shows it, not when it is written down.
#[test]
fn what_is_kept_comes_to_the_port_even_if_another_try_has_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let running = open(folder.path(), &[], at(2050)).unwrap();
    let before = server_file(folder.path());
    // As after a try that wrote the certificate and came no further.
    issue(&running.place, &running.authority, &running.names, at(2052)).unwrap();
    assert_ne!(server_file(folder.path()), before);
    assert!(running.renew_if_due(at(2052)).unwrap(), "the port shows the old one");
    assert!(!running.renew_if_due(at(2052)).unwrap());
    // One whose key is lost would never come as far as the port.
    let path = folder.path().join(PLACE).join(SERVER);
    let whole = server_file(folder.path());
    let (certificate, _) = whole.split_once("-----BEGIN PRIVATE").unwrap();
    fs::write(&path, certificate).unwrap();
    assert!(running.renew_if_due(at(2052)).unwrap());
    assert!(server_file(folder.path()).contains("-----BEGIN PRIVATE"));
    open(folder.path(), &[], at(2052)).unwrap();
}

#[test]
fn a_name_that_nobody_can_prove_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path(), &["not a name", "10.0.0.7", "10.0.0.7"], at(2030)).unwrap();
    assert_eq!(opened.names[1..], hosts(&["10.0.0.7", "localhost", "127.0.0.1", "::1"]));
}

/// A kill between any two steps of the making leaves one of these.
#[test]
fn whatever_a_start_that_was_cut_off_leaves_the_next_one_is_whole() {
    let whole = tempfile::tempdir().unwrap();
    open(whole.path(), &[], at(2030)).unwrap();
    let file = |name: &str| fs::read(whole.path().join(PLACE).join(name)).unwrap();
    let (key, certificate) = (file(AUTHORITY_KEY), file(AUTHORITY));
    let torn = &key[..key.len() / 2];
    let lefts: [&[(&str, &[u8])]; 6] = [
        &[],
        &[("ca.key.partial", b"")],
        &[("ca.key.partial", torn)],
        &[(AUTHORITY_KEY, &key)],
        &[(AUTHORITY_KEY, &key), ("ca.pem.partial", b"-----BEGIN")],
        &[(AUTHORITY_KEY, &key), (AUTHORITY, &certificate)],
    ];
    for left in lefts {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("nbd-tls.partial");
        fs::create_dir(&partial).unwrap();
        for (name, bytes) in left {
            fs::write(partial.join(name), bytes).unwrap();
        }
        open(folder.path(), &[], at(2030)).unwrap();
        assert!(!partial.exists());
    }
    // Behind the rename the authority exists, and only what it signs may be missing or half there.
    for server in [None, Some(&b"-----BEGIN CERT"[..])] {
        let path = whole.path().join(PLACE).join(SERVER);
        match server {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        let again = open(whole.path(), &[], at(2030)).unwrap();
        assert_eq!(again.authority.as_bytes(), certificate);
    }
}

#[test]
fn broken_files_are_named_with_what_to_do_and_never_made_anew() {
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &[], at(2030)).unwrap();
        folder
    };
    let stranger = make();
    let foreign = fs::read(stranger.path().join(PLACE).join(AUTHORITY_KEY)).unwrap();
    for (name, bytes) in [
        (AUTHORITY, Some(&b"-----BEGIN"[..])),
        (AUTHORITY, None),
        (AUTHORITY_KEY, Some(b"torn")),
        (AUTHORITY_KEY, Some(&foreign)),
    ] {
        let folder = make();
        let place = folder.path().join(PLACE);
        fs::remove_file(place.join(SERVER)).unwrap();
        match bytes {
            None => fs::remove_file(place.join(name)).unwrap(),
            Some(bytes) => fs::write(place.join(name), bytes).unwrap(),
        }
        let said = format!("{:#}", open(folder.path(), &[], at(2030)).err().unwrap());
        assert!(said.contains(name) && said.contains("--forget-hub"), "{said}");
        assert!(!place.join(SERVER).exists());
    }
}
