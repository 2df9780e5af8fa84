//! Adding: with disks, again, in part, under races, and broken at every step.

use hub_testkit::Whole as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hub_domain::disk::{Presence, VmDisk};
use hub_domain::inventory::{RejectedVm, SeenInventory};
use hub_domain::vm::VmContext;
use hub_ports::{Catalogue, Store, StoreError, UnitOfWork};
use hub_testkit::{Break, FakeVma, FixedClock, MemStore, SeqIds, Steps, fixtures};

use super::*;
use crate::Options;

/// An engine over doubles, with one VMA registered.
pub(crate) struct Bench {
    pub(crate) discovery: Discovery,
    pub(crate) store: Arc<MemStore>,
    pub(crate) vma: Arc<FakeVma>,
    pub(crate) steps: Steps,
}

impl Bench {
    pub(crate) async fn new(seen: SeenInventory) -> anyhow::Result<Self> {
        let steps = Steps::default();
        let store = Arc::new(MemStore::with_steps(steps.clone()));
        let vma = Arc::new(FakeVma::with_steps(seen, steps.clone()));
        let mut work = store.begin().await?;
        work.insert_vma_node(&fixtures::vma_node(1, "vma1")).await?;
        work.commit().await?;
        let discovery = Discovery {
            store: store.clone(),
            source: vma.clone(),
            clock: Arc::new(FixedClock::ticking()),
            ids: Arc::new(SeqIds::default()),
            options: Options { chunk: 2, ..Default::default() },
        };
        Ok(Self { discovery, store, vma, steps })
    }

    pub(crate) async fn add(&self, names: &[&str]) -> anyhow::Result<AddReport> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted::These { names, ids: Vec::new() };
        Ok(self.discovery.add_vms(&AddVms { source: SourceChoice::default(), wanted }).await?)
    }

    pub(crate) async fn stored(&self) -> anyhow::Result<Vec<(VmContext, Vec<VmDisk>)>> {
        let mut view = self.store.view().await?;
        let mut all = Vec::new();
        for vm in view.vms_page(None, 500).await?.whole()? {
            let disks = view.disks_of(&[vm.id]).await?;
            all.push((vm, disks));
        }
        Ok(all)
    }
}

fn three() -> anyhow::Result<SeenInventory> {
    let mut vms = vec![fixtures::pgtest1()?];
    for (name, id) in [("web, /1 – Ж", "vm-2"), ("empty", "vm-3")] {
        vms.push(fixtures::seen_vm(name, id, Vec::new()));
    }
    vms[1].disks = vec![fixtures::disk("disk-2000", 1 << 30)?];
    Ok(fixtures::inventory(vms))
}

fn codes(report: &AddReport) -> Vec<&str> {
    report
        .results
        .iter()
        .map(|it| it.outcome.as_ref().map_or_else(|fault| fault.code, |ok| ok.change.word()))
        .collect()
}

#[tokio::test]
async fn story_1_disks_are_stored_at_discovery_with_job_id_null() {
    let bench = Bench::new(three().unwrap()).await.unwrap();
    let report = bench.add(&["pgtest1"]).await.unwrap();
    assert_eq!(codes(&report), ["added"]);
    let stored = bench.stored().await.unwrap();
    let (vm, disks) = &stored[0];
    assert_eq!(vm.status.word(), "discovered");
    let facts: Vec<_> =
        disks.iter().map(|disk| (disk.ordinal, disk.facts.capacity.bytes(), disk.job)).collect();
    assert_eq!(facts, [(0, fixtures::BIG, None), (1, fixtures::SMALL, None)]);
}

#[tokio::test]
async fn every_name_is_answered_once_in_the_order_asked() {
    let mut seen = three().unwrap();
    seen.rejected.push(RejectedVm { subject: "broken".to_owned(), detail: "no disk".to_owned() });
    let bench = Bench::new(seen).await.unwrap();
    let report =
        bench.add(&["nobody", "empty", "web, /1 – Ж", "empty", "broken", "pgtest1"]).await.unwrap();
    assert_eq!(
        codes(&report),
        ["vm/not-found", "added", "added", "discovery/vm-rejected", "added"]
    );
    assert_eq!(report.results[1].outcome.as_ref().unwrap().disks, 0);
    assert_eq!((report.count(Change::Added), report.failed()), (3, 2));
}

#[tokio::test]
async fn trap_c21_adding_again_heals_refreshes_and_writes_nothing_where_nothing_changed() {
    let mut seen = three().unwrap();
    let bench = Bench::new(seen.clone()).await.unwrap();
    bench.add(&["pgtest1", "empty"]).await.unwrap();
    let before = bench.stored().await.unwrap();
    bench.steps.heal();
    let again = bench.add(&["pgtest1", "empty"]).await.unwrap();
    assert_eq!(codes(&again), ["unchanged", "unchanged"]);
    assert_eq!(bench.steps.count("store.begin"), 0);
    assert_eq!(bench.stored().await.unwrap(), before);
    seen.vms[0].disks.remove(0);
    seen.vms[0].disks.push(fixtures::disk("disk-2002", 1 << 30).unwrap());
    seen.vms[2].disks.push(fixtures::disk("disk-2000", 1 << 30).unwrap());
    bench.vma.set_inventory(seen);
    let healed = bench.add(&["pgtest1", "empty"]).await.unwrap();
    assert_eq!(codes(&healed), ["updated", "updated"]);
    let after = bench.stored().await.unwrap();
    let disks = &after[0].1;
    assert_eq!(disks[0].presence, Presence::Retired);
    assert_eq!((disks[2].ordinal, disks[1].id), (2, before[0].1[1].id));
    assert_eq!(after[1].1.len(), 1);
}

#[tokio::test]
async fn trap_u14_a_name_that_two_vms_have_names_both_and_an_id_picks_one() {
    let twins = ["vm-1", "vm-2"].map(|id| fixtures::seen_vm("twin", id, Vec::new()));
    let bench = Bench::new(fixtures::inventory(twins.to_vec())).await.unwrap();
    let report = bench.add(&["twin"]).await.unwrap();
    let fault = report.results[0].outcome.clone().unwrap_err();
    assert_eq!(fault.code, "vm/ambiguous-name");
    assert!(fault.detail.contains("vm-1") && fault.detail.contains("vm-2"), "{fault}");
    let names = vec!["twin".to_owned()];
    let wanted = Wanted::These { names, ids: vec!["vm-2".to_owned()] };
    let request = AddVms { source: SourceChoice::default(), wanted };
    let report = bench.discovery.add_vms(&request).await.unwrap();
    assert_eq!(codes(&report), ["added"]);
    assert_eq!(report.results[0].vmware_vm_id.as_deref(), Some("vm-2"));
    let all = AddVms { source: SourceChoice::default(), wanted: Wanted::All };
    assert_eq!(codes(&bench.discovery.add_vms(&all).await.unwrap()), ["added", "unchanged"]);
}

#[tokio::test(start_paused = true)]
async fn one_vm_that_cannot_be_stored_does_not_stop_the_others() {
    let mut seen = three().unwrap();
    let twice = seen.vms[1].disks[0].clone();
    seen.vms[1].disks.push(twice);
    let bench = Bench::new(seen).await.unwrap();
    let report = bench.add(&["pgtest1", "web, /1 – Ж", "empty"]).await.unwrap();
    assert_eq!(codes(&report), ["added", "store/conflict", "added"]);
    assert_eq!(bench.stored().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_adds_at_once_store_each_vm_once() {
    let bench = Bench::new(three().unwrap()).await.unwrap();
    let names = ["pgtest1", "web, /1 – Ж", "empty"];
    let (one, other) = tokio::join!(bench.add(&names), bench.add(&names));
    for report in [one.unwrap(), other.unwrap()] {
        assert_eq!(report.failed(), 0, "{report:?}");
    }
    let stored = bench.stored().await.unwrap();
    assert_eq!(stored.iter().map(|(_, disks)| disks.len()).collect::<Vec<_>>(), [2, 1, 0]);
}

/// A catalogue in which somebody else adds a VM before the first unit of work begins.
struct Overtaken {
    store: Arc<MemStore>,
    first: Discovery,
    begun: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Overtaken {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        if self.begun.fetch_add(1, Ordering::SeqCst) == 0 {
            let added = self.first.add_vms(&pgtest1()).await;
            assert_eq!(codes(&added.unwrap()), ["added"]);
        }
        self.store.begin().await
    }

    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError> {
        self.store.view().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    fn unreadable(&self) -> usize {
        self.store.unreadable()
    }
}

fn pgtest1() -> AddVms {
    let wanted = Wanted::These { names: vec!["pgtest1".to_owned()], ids: Vec::new() };
    AddVms { source: SourceChoice::default(), wanted }
}

/// Planned as new, found there with other facts: it is not changed in the unit that has not held it.
#[tokio::test(start_paused = true)]
async fn a_vm_that_came_meanwhile_is_held_before_it_is_changed() {
    let bench = Bench::new(three().unwrap()).await.unwrap();
    let mut grown = three().unwrap();
    grown.vms[0].disks[0] = fixtures::disk("disk-2000", 1 << 40).unwrap();
    let (store, first) = (bench.store.clone(), bench.discovery.clone());
    let overtaken = Arc::new(Overtaken { store, first, begun: AtomicUsize::new(0) });
    let source = Arc::new(FakeVma::with_steps(grown, bench.steps.clone()));
    let second = Discovery { source, store: overtaken.clone(), ..bench.discovery.clone() };
    let report = second.add_vms(&pgtest1()).await.unwrap();
    assert_eq!(codes(&report), ["updated"]);
    assert_eq!(overtaken.begun.load(Ordering::SeqCst), 2, "it began again, and held the VM");
}

#[tokio::test(start_paused = true)]
async fn broken_at_any_step_no_vm_is_stored_without_its_disks_and_adding_again_heals() {
    let names = ["pgtest1", "web, /1 – Ж", "empty"];
    for how in [Break::Fail, Break::Hang] {
        for step in 1.. {
            let bench = Bench::new(three().unwrap()).await.unwrap();
            bench.steps.break_at(step, how);
            let hour = std::time::Duration::from_secs(3600);
            let _ = tokio::time::timeout(hour, bench.add(&names)).await;
            let reached = bench.steps.reached();
            bench.steps.heal();
            for (vm, disks) in bench.stored().await.unwrap() {
                let seen = three().unwrap();
                let seen = seen.vms.iter().find(|it| it.facts.name == vm.facts.name).unwrap();
                assert_eq!(disks.len(), seen.disks.len(), "{how:?} at step {step}");
            }
            assert_eq!(bench.add(&names).await.unwrap().failed(), 0);
            assert_eq!(bench.stored().await.unwrap().len(), 3);
            if !reached {
                assert!(step > 5, "the steps are counted");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_goes_away_is_not_waited_for_once_per_vm() {
    let mut seen = three().unwrap();
    let twice = seen.vms[1].disks[0].clone();
    seen.vms[1].disks.push(twice);
    let names = ["pgtest1", "web, /1 – Ж", "empty"];
    for step in 1.. {
        let mut bench = Bench::new(seen.clone()).await.unwrap();
        bench.discovery.options.chunk = 3;
        bench.steps.break_at(step, Break::Fail);
        let report = bench.add(&names).await;
        let reached = bench.steps.reached();
        if let Ok(report) = report {
            let codes = codes(&report);
            let away = codes.iter().position(|code| *code == "store/unavailable");
            if let Some(away) = away {
                let after = codes[away..].iter().all(|code| *code == "store/unavailable");
                assert!(after, "step {step}: {codes:?}");
            }
        }
        if !reached {
            assert!(step > 5, "the steps are counted");
            break;
        }
    }
}

#[tokio::test]
async fn a_name_is_found_with_blanks_around_it_and_with_200_letters() {
    let mut seen = three().unwrap();
    let long = "Ж".repeat(100) + &"x".repeat(100);
    seen.vms[2].facts.name.clone_from(&long);
    let bench = Bench::new(seen).await.unwrap();
    let report = bench.add(&[" pgtest1\n", &long]).await.unwrap();
    assert_eq!(codes(&report), ["added", "added"]);
}

#[tokio::test]
async fn a_vm_that_shows_no_disk_any_more_keeps_its_rows_and_heals_with_the_same_ones() {
    let bench = Bench::new(three().unwrap()).await.unwrap();
    bench.add(&["pgtest1"]).await.unwrap();
    let before = bench.stored().await.unwrap();
    let mut bare = three().unwrap();
    bare.vms[0].disks.clear();
    bench.vma.set_inventory(bare);
    let report = bench.add(&["pgtest1"]).await.unwrap();
    assert_eq!(
        (codes(&report), report.results[0].outcome.as_ref().unwrap().disks),
        (vec!["updated"], 0)
    );
    let retired = bench.stored().await.unwrap();
    assert!(retired[0].1.iter().all(|disk| disk.presence == Presence::Retired));
    assert_eq!(retired[0].1.len(), 2);
    bench.vma.set_inventory(three().unwrap());
    bench.add(&["pgtest1"]).await.unwrap();
    let ids = |stored: &[(VmContext, Vec<VmDisk>)]| -> Vec<_> {
        stored[0].1.iter().map(|disk| (disk.id, disk.ordinal, disk.presence)).collect()
    };
    assert_eq!(ids(&bench.stored().await.unwrap()), ids(&before));
}
