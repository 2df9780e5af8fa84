//! Another VMA replicates where a VM's own one does not answer, and never beside it.

use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::ids::VmaNodeId;
use hub_domain::job::JobStatus;
use hub_domain::reader_choice::SourceName;
use hub_domain::remarks::Remarks;
use hub_domain::replication::ReplicationKind;
use hub_domain::source::SourceAbout;
use hub_ports::Store;
use hub_testkit::{CopyScript, fixtures};
use tokio::time::timeout;

use crate::bench::Bench;

/// A bench with two VMAs at the VM's vCenter, the VM's own and another; and their ids.
async fn two() -> anyhow::Result<(Bench, VmaNodeId, VmaNodeId)> {
    let bench = Bench::new(true).await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let reading = |id, name: &str| VmaNode {
        source_kind: "vsphere".to_owned(),
        source: SourceName { host: Some(fixtures::VCENTER.to_owned()), uuid: None },
        ..fixtures::vma_node(id, name)
    };
    let (own, other) = (reading(1, "vma1"), reading(2, "vma2"));
    let mut work = bench.store.begin().await?;
    work.update_vma_node(&own).await?;
    work.note_vma_source(own.id, &own.source).await?;
    work.insert_vma_node(&other).await?;
    work.commit().await?;
    Ok((bench, own.id, other.id))
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_answer_is_stood_in_for_and_the_job_says_so() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.silence(own, "");
    let job = bench.replicate(ReplicationKind::Initial).await.unwrap();
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [other]);
    assert_eq!(job.remarks.copied_by.unwrap().name, "vma2");
    assert!(job.remarks.warnings[0].detail.contains("vma1 does not answer"));
    bench.vma.unsilence(own);
    let job = bench.replicate(ReplicationKind::Incremental).await.unwrap();
    assert_eq!(bench.vma.ordered(), [other, own]);
    assert_eq!((job.remarks.copied_by.unwrap().vma, job.remarks.warnings), (own, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn p3_an_attempt_after_a_restart_goes_to_the_vma_that_was_ordered() {
    let (bench, own, other) = two().await.unwrap();
    for (silent, ordered) in [(own, other), (other, own)] {
        bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
        bench.vma.silence(silent, "");
        let job = bench.start(ReplicationKind::Initial).await.unwrap();
        assert!(timeout(Duration::from_secs(30), bench.run(job)).await.is_err());
        bench.vma.unsilence(silent);
        bench.vma.script(CopyScript::default());
        assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
        assert!(bench.vma.copying().is_empty(), "the one that copied was told to stop");
        let orders = bench.vma.ordered();
        assert_eq!(orders[orders.len() - 2..], [ordered, ordered]);
    }
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let job = bench.start(ReplicationKind::Initial).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(job)).await.is_err());
    bench.vma.silence(own, "");
    let orders = bench.vma.ordered().len();
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Failed]);
    assert_eq!(bench.job(job).await.unwrap().state.fault().unwrap().code, "vma/unreachable");
    assert_eq!(bench.vma.ordered().len(), orders);
}

/// A hub of an earlier release ordered without saying whom; what it ordered may be at work at the VM's own VMA.
#[tokio::test(start_paused = true)]
async fn p3_a_job_of_an_earlier_release_is_not_given_to_a_second_vma() {
    let (bench, own, _) = two().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let job = bench.start(ReplicationKind::Initial).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(job)).await.is_err());
    let mut work = bench.store.begin().await.unwrap();
    let mut stored = work.replication(job).await.unwrap().unwrap();
    stored.remarks = Remarks::default();
    work.update_replication(&mut stored).await.unwrap();
    work.commit().await.unwrap();
    bench.vma.silence(own, "");
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Failed]);
    assert_eq!(bench.vma.ordered(), [own]);
}

/// A job that follows at once does not wait for a round of clean-ups.
#[tokio::test(start_paused = true)]
async fn p3_a_stand_in_removes_the_snapshot_of_a_dead_vma_before_it_takes_its_own() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let dead = bench.start(ReplicationKind::Initial).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(dead)).await.is_err());
    bench.vma.silence(own, "");
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Failed]);
    bench.vma.forget_copies();
    assert!(!bench.vma.snapshots().is_empty());
    let job = bench.start(ReplicationKind::Initial).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(job)).await.is_err());
    assert_eq!(bench.vma.ordered(), [own, other]);
    assert_eq!(bench.vma.snapshots().len(), 1, "that of the job at work");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_added_meanwhile_is_named() {
    let (bench, ..) = two().await.unwrap();
    let job = bench.start(ReplicationKind::Initial).await.unwrap();
    let mut disks = fixtures::pgtest1().unwrap().disks;
    disks.push(fixtures::disk("disk-2002", fixtures::SMALL).unwrap());
    let now = bench.replication.clock.now();
    let known = bench.disks().await.unwrap();
    let added = hub_domain::disk_sync::plan_disk_sync(bench.vm.id, &known, &disks, now).add;
    let mut work = bench.store.begin().await.unwrap();
    work.insert_disks(&added, now).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(bench.run(job).await.unwrap(), JobStatus::Succeeded);
    let warnings = bench.job(job).await.unwrap().remarks.warnings;
    assert_eq!(warnings[0].code, "vm/disk-added");
    assert!(warnings[0].detail.contains("disk-2002"), "{}", warnings[0].detail);
}

#[tokio::test(start_paused = true)]
async fn trap_u15_an_order_names_its_vcenter_and_what_another_refuses_is_no_copy() {
    let (bench, own, _) = two().await.unwrap();
    let mut vm = bench.vm.clone();
    vm.facts.vcenter_uuid = Some("vc-1".to_owned());
    let mut work = bench.store.begin().await.unwrap();
    work.update_vm(&vm).await.unwrap();
    work.commit().await.unwrap();
    let job = bench.replicate(ReplicationKind::Initial).await.unwrap();
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders()[0].vcenter_uuid.as_deref(), Some("vc-1"));
    bench.vma.lead_elsewhere(own, Some("vc-2"));
    let job = bench.replicate(ReplicationKind::Incremental).await.unwrap();
    assert_eq!(job.state.fault().unwrap().code, "source/other-vcenter");
    assert_eq!((bench.vma.orders().len(), bench.vma.calls("vma.start_copy")), (1, 2));
}
