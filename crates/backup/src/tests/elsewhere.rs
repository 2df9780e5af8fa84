//! A VMA that reaches another vCenter copies nothing, and what it says of snapshots settles nothing.

use hub_domain::ids::VmaNodeId;
use hub_domain::job::JobStatus;
use hub_domain::reader_choice::SourceName;
use hub_domain::source::SourceAbout;
use hub_domain::vm::VmContext;
use hub_ports::{OwedCleanups, OwedOptions, Store};
use hub_testkit::Whole as _;
use hub_testkit::{FixedClock, fixtures};

use crate::bench::{Bench, FULL};

/// A bench whose VM is of a vCenter of a known id, with two VMAs there; their ids.
async fn two() -> anyhow::Result<(Bench, VmaNodeId, VmaNodeId)> {
    let bench = Bench::new().await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let vcenter = Some("vc-1".to_owned());
    let known = SourceName { host: Some(fixtures::VCENTER.to_owned()), uuid: vcenter.clone() };
    let mut nodes = [fixtures::vma_node(1, "vma1"), fixtures::vma_node(2, "vma2")];
    nodes.iter_mut().for_each(|it| it.source_kind = "vsphere".to_owned());
    let [own, other] = nodes;
    let mut vm = VmContext { credential: Some(login.id), ..bench.vm.clone() };
    vm.facts.vcenter_uuid = vcenter;
    let mut work = bench.store.begin().await?;
    work.insert_credential(&login).await?;
    work.update_vma_node(&own).await?;
    work.insert_vma_node(&other).await?;
    work.note_vma_source(own.id, &known).await?;
    work.note_vma_source(other.id, &known).await?;
    work.update_vm(&vm).await?;
    work.commit().await?;
    Ok((bench, own.id, other.id))
}

fn rounds(bench: &Bench) -> OwedCleanups {
    OwedCleanups {
        store: bench.store.clone(),
        source: bench.vma.clone(),
        clock: std::sync::Arc::new(FixedClock::ticking()),
        options: OwedOptions::default(),
    }
}

/// The codes of what is owed.
async fn owed(bench: &Bench) -> anyhow::Result<Vec<String>> {
    let all = bench.store.view().await?.owed_cleanups(9).await?.whole()?;
    Ok(all.into_iter().map(|it| it.fault.map(|it| it.code).unwrap_or_default()).collect())
}

#[tokio::test(start_paused = true)]
async fn trap_u15_an_order_names_its_vcenter_and_what_another_refuses_is_no_copy() {
    let (bench, own, _) = two().await.unwrap();
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders()[0].vcenter_uuid.as_deref(), Some("vc-1"));
    // The hub knows nothing of it yet, so the order goes out.
    bench.vma.lead_elsewhere(own, Some("vc-2"));
    let orders = bench.vma.calls("vma.start_copy");
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
    assert_eq!(bench.vma.calls("vma.start_copy"), orders + 1, "it is not tried again");
    let jobs = bench.jobs().await.unwrap();
    let codes: Vec<_> =
        jobs.iter().filter_map(|it| Some(it.state.fault()?.code.as_str())).collect();
    assert_eq!(codes, ["source/other-vcenter"; 2]);
    assert_eq!(bench.vma.orders().len(), 1);
    bench.assert_nothing_left().await.unwrap();
    // Neither its word nor that of another settles what may be at the first vCenter.
    assert_eq!(owed(&bench).await.unwrap(), ["source/other-vcenter"]);
    assert_eq!(rounds(&bench).round().await.unwrap().owed, 1);
    assert_eq!(owed(&bench).await.unwrap(), ["source/other-vcenter"]);
    bench.vma.lead_elsewhere(own, None);
    assert_eq!(rounds(&bench).round().await.unwrap().settled, 1);
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn p3_the_snapshot_of_a_vma_that_reaches_another_vcenter_is_removed_through_one_that_does_not()
 {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.keep_snapshots(true);
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    bench.vma.keep_snapshots(false);
    bench.vma.forget_copies();
    for elsewhere in [own, other] {
        bench.vma.lead_elsewhere(elsewhere, Some("vc-2"));
    }
    assert_eq!(rounds(&bench).round().await.unwrap().owed, 1);
    assert_eq!(bench.vma.snapshots().len(), 1);
    bench.vma.lead_elsewhere(other, None);
    assert_eq!(rounds(&bench).round().await.unwrap().settled, 1);
    assert!(bench.vma.snapshots().is_empty());
}
