//! Through which VMA a VM is backed up, as far as the catalogue knows what VMAs read.

use hub_domain::access::VmaNode;
use hub_domain::job::JobStatus;
use hub_domain::reader_choice::SourceName;
use hub_domain::source::SourceAbout;
use hub_domain::vm::VmContext;
use hub_ports::{Classify as _, OwedCleanups, OwedOptions, Store};
use hub_testkit::Whole as _;
use hub_testkit::{FixedClock, fixtures};

use crate::bench::{Bench, FULL};

fn reading(id: u128, name: &str, host: &str) -> VmaNode {
    VmaNode {
        source_kind: "vsphere".to_owned(),
        source: SourceName { host: Some(host.to_owned()), uuid: None },
        ..fixtures::vma_node(id, name)
    }
}

/// A bench whose VM's own VMA reads another vCenter by now.
async fn moved_away() -> anyhow::Result<Bench> {
    let bench = Bench::new().await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let mut work = bench.store.begin().await?;
    work.insert_credential(&login).await?;
    work.update_vma_node(&reading(1, "vma1", "another.example.local")).await?;
    work.update_vm(&VmContext { credential: Some(login.id), ..bench.vm.clone() }).await?;
    work.commit().await?;
    Ok(bench)
}

#[tokio::test(start_paused = true)]
async fn trap_c19_a_vma_that_reads_another_vcenter_is_not_asked_for_the_vm() {
    let bench = moved_away().await.unwrap();
    let refused = bench.backup.start(&bench.request(FULL)).await.unwrap_err();
    assert_eq!(refused.code(), "vm/no-vma");
    let text = refused.to_string();
    assert!(text.contains("VMA vma1 reads another.example.local"), "{text}");
    assert!(bench.vma.orders().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_vma_that_reads_the_vcenter_takes_its_place_and_cleans_up_after_it() {
    let bench = moved_away().await.unwrap();
    let stand_in = reading(2, "vma2", fixtures::VCENTER);
    let mut work = bench.store.begin().await.unwrap();
    work.insert_vma_node(&stand_in).await.unwrap();
    work.commit().await.unwrap();
    bench.vma.keep_snapshots(true);
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders()[0].credential.as_ref().unwrap().name, "login", "trap D3");
    let owed = bench.store.view().await.unwrap().owed_cleanups(9).await.unwrap().whole().unwrap();
    assert_eq!(owed[0].vma_node, stand_in.id);
    // The one that copied is taken out, and its snapshot is removed through the next.
    let mut work = bench.store.begin().await.unwrap();
    work.delete_vma_node(stand_in.id).await.unwrap();
    work.commit().await.unwrap();
    bench.vma.keep_snapshots(false);
    let rounds = OwedCleanups {
        store: bench.store.clone(),
        source: bench.vma.clone(),
        clock: std::sync::Arc::new(FixedClock::ticking()),
        options: OwedOptions::default(),
    };
    assert_eq!(rounds.round().await.unwrap().owed, 1, "vma1 reads something else");
    let owed = bench.store.view().await.unwrap().owed_cleanups(9).await.unwrap().whole().unwrap();
    assert_eq!(owed[0].fault.as_ref().unwrap().code, "vm/no-vma");
    let mut work = bench.store.begin().await.unwrap();
    work.insert_vma_node(&reading(3, "vma3", fixtures::VCENTER)).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(rounds.round().await.unwrap().settled, 1);
    assert!(bench.vma.snapshots().is_empty());
}
