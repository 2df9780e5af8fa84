//! Starting: what is refused, what is the same request, what two at once make.

use hub_domain::access::VmaNode;
use hub_domain::disk::{DiskKey, Presence};
use hub_domain::ids::VmContextId;
use hub_ports::{Classify, ErrorClass, Store};
use hub_testkit::fixtures;
use uuid::Uuid;

use super::*;
use crate::bench::{Bench, FULL, INCREMENTAL};

#[tokio::test]
async fn requests_that_make_no_sense_are_named() {
    let bench = Bench::new().await.unwrap();
    let good = bench.request(FULL);
    let unknown = Uuid::from_u128(99);
    let cases = [
        (StartBackup { vm: VmAddress::Name("x".to_owned()), ..good.clone() }, "vm/not-found"),
        (
            StartBackup { vm: VmAddress::Id(VmContextId::from_uuid(unknown)), ..good.clone() },
            "vm/not-found",
        ),
        (
            StartBackup { repository: RepositoryId::from_uuid(unknown), ..good.clone() },
            "repository/not-found",
        ),
        (StartBackup { disks: DiskSelector::Ordinal(7), ..good.clone() }, "backup/disk-not-found"),
        (
            StartBackup { disks: DiskSelector::Key(DiskKey::new("x").unwrap()), ..good },
            "backup/disk-not-found",
        ),
    ];
    for (request, code) in cases {
        assert_eq!(bench.backup.start(&request).await.unwrap_err().code(), code);
    }
    assert!(bench.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn trap_d1_a_vm_without_disks_is_told_to_run_discovery() {
    let bench = Bench::new().await.unwrap();
    let seen = fixtures::seen_vm("legacy", "vm-9", Vec::new());
    let vm = fixtures::vm_context(9, seen.facts.clone(), bench.vm.vma_node);
    bench.manage(&vm, &seen).await.unwrap();
    let request = StartBackup { vm: VmAddress::Id(vm.id), ..bench.request(FULL) };
    let error = bench.backup.start(&request).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert_eq!(error.to_string(), "VM disk information not available - run discovery first");
    let request = StartBackup { disks: DiskSelector::Ordinal(5), ..bench.request(FULL) };
    let error = bench.backup.start(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "disk_id 5 not found for VM pgtest1");
}

#[tokio::test]
async fn disks_are_named_by_ordinal_or_key() {
    let bench = Bench::new().await.unwrap();
    for asked in ["1", "disk-2001"] {
        let disks = DiskSelector::parse(asked).unwrap();
        let request = StartBackup { disks, ..bench.request(FULL) };
        let started = bench.backup.start(&request).await.unwrap();
        assert_eq!(started.jobs.len(), 1);
        assert_eq!(started.jobs[0].capacity.bytes(), fixtures::SMALL, "trap D2: the stored size");
        bench.backup.cancel(started.run.id).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p8_two_equal_requests_at_once_make_one_run() {
    let bench = Bench::new().await.unwrap();
    let request = bench.request(FULL);
    let (one, other) = tokio::join!(bench.backup.start(&request), bench.backup.start(&request));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.run.id, other.run.id);
    assert!(one.is_new != other.is_new);
    assert_eq!(bench.jobs().await.unwrap().len(), 2);
    let different = bench.request(INCREMENTAL);
    let error = bench.backup.start(&different).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("backup/already-running", ErrorClass::Conflict));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_went_away_while_the_job_was_queued_ends_its_job_only() {
    let bench = Bench::new().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    let mut gone = bench.disks().await.unwrap().remove(1);
    gone.presence = Presence::Retired;
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&[gone]).await.unwrap();
    work.commit().await.unwrap();
    bench.run(run).await.unwrap();
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs[0].is_restore_point());
    assert_eq!(jobs[1].state.fault().unwrap().code, "backup/disk-gone");
}

#[tokio::test]
async fn traps_d3_c7_a_vm_of_a_vsphere_source_without_a_login_is_refused_before_anything_is_stored()
{
    let bench = Bench::new().await.unwrap();
    let node = fixtures::vma_node(1, "vma1");
    let mut work = bench.store.begin().await.unwrap();
    work.update_vma_node(&VmaNode { source_kind: "vsphere".to_owned(), ..node }).await.unwrap();
    work.commit().await.unwrap();
    let error = bench.backup.start(&bench.request(FULL)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("discovery/credential-needed", ErrorClass::Conflict)
    );
    assert!(error.to_string().contains("pgtest1"), "{error}");
    assert!(bench.jobs().await.unwrap().is_empty());
    let login = fixtures::credential(5, "vc");
    let mut work = bench.store.begin().await.unwrap();
    work.insert_credential(&login).await.unwrap();
    let credential = Some(login.id);
    work.update_vm(&VmContext { credential, ..bench.vm.clone() }).await.unwrap();
    work.commit().await.unwrap();
    assert!(bench.backup.start(&bench.request(FULL)).await.unwrap().is_new);
}
