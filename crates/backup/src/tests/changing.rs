//! What changes under a run between its start, its beginning and its end.

use std::time::Duration;

use hub_domain::backup::BackupType;
use hub_domain::capacity::Capacity;
use hub_domain::job::JobStatus;
use hub_ports::Store;
use hub_testkit::{Break, CopyScript};
use tokio::time::sleep;

use crate::bench::{Bench, FULL, INCREMENTAL};

async fn delete_vm(bench: &Bench) -> anyhow::Result<()> {
    let mut work = bench.store.begin().await?;
    work.delete_vm(bench.vm.id).await?;
    Ok(work.commit().await?)
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_deleted_before_its_run_begins_fails_it_without_a_side_effect() {
    let bench = Bench::new().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    delete_vm(&bench).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Failed);
    for job in bench.jobs().await.unwrap() {
        assert_eq!(job.state.fault().unwrap().code, "vm/not-found");
    }
    assert_eq!((bench.vma.orders().len(), bench.steps.count("storage.prepare")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_deleted_under_its_run_still_gets_its_points() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 100, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    let deleting = async {
        sleep(Duration::from_secs(5)).await;
        delete_vm(&bench).await
    };
    let (ran, deleted) = tokio::join!(bench.run(run), deleting);
    deleted.unwrap();
    assert_eq!(ran.unwrap(), JobStatus::Succeeded);
    assert!(bench.jobs().await.unwrap().iter().all(|job| job.is_restore_point()));
    bench.assert_nothing_left().await.unwrap();
}

/// Somebody may exchange the disk while the order waits, and only the VMA sees that.
#[tokio::test(start_paused = true)]
async fn trap_d8_an_order_names_the_disk_behind_its_key_as_it_is_known_by_then() {
    let bench = Bench::new().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    let mut disk = bench.disks().await.unwrap().remove(0);
    disk.facts.backing_uuid = Some("6000c29".to_owned());
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&[disk]).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    let order = bench.vma.orders().remove(0);
    let named: Vec<_> = order.disks.iter().map(|it| it.backing_uuid.as_deref()).collect();
    assert_eq!(named, [Some("6000c29"), None]);
}

#[tokio::test(start_paused = true)]
async fn traps_c22_2_2_a_disk_that_changed_its_size_while_the_job_waited_is_planned_anew() {
    for (bytes, backup_type, method) in
        [(1 << 30, BackupType::Full, "full"), (1 << 40, BackupType::Incremental, "by_digest")]
    {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        let run = bench.start(INCREMENTAL).await.unwrap();
        let mut disk = bench.disks().await.unwrap().remove(0);
        disk.facts.capacity = Capacity::new(bytes).unwrap();
        let mut work = bench.store.begin().await.unwrap();
        work.update_disks(&[disk]).await.unwrap();
        work.commit().await.unwrap();
        assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
        let job = bench.jobs().await.unwrap().remove(2);
        assert_eq!((job.backup_type, job.method.as_str()), (backup_type, method));
        assert_eq!(job.capacity.bytes(), bytes);
        assert!(job.method_reason.is_some());
        assert_eq!(bench.vma.orders()[1].disks[0].capacity.bytes(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn p5_a_fault_of_the_storage_says_what_the_system_said() {
    let bench = Bench::new().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    let first = {
        let whole = Bench::new().await.unwrap();
        let run = whole.start(FULL).await.unwrap();
        whole.steps.heal();
        whole.run(run).await.unwrap();
        whole.steps.log().iter().position(|name| name == "storage.prepare").unwrap()
    };
    bench.steps.break_at(first + 1, Break::Fail);
    bench.run(run).await.unwrap();
    let job = bench.jobs().await.unwrap().remove(0);
    let fault = job.state.fault().unwrap();
    assert_eq!(fault.detail, "input/output error at a file: test fault");
}

#[tokio::test(start_paused = true)]
async fn promise_p6_the_manifest_says_why_a_full_was_made_of_an_incremental() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.storage.set_fault(Some(hub_testkit::Fault::NoParent));
    bench.back_up(INCREMENTAL).await.unwrap();
    let job = bench.jobs().await.unwrap().remove(2);
    let identity = bench.storage.identity(job.id).unwrap();
    assert_eq!((identity.backup_type, identity.parent), (BackupType::Full, None));
    assert_eq!(identity.method_reason, job.method_reason);
    assert!(identity.method_reason.is_some());
}
