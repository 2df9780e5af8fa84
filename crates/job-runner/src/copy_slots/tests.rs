//! The line with real tasks: turns, changing limits, and what those in line are told.

use std::time::Duration;

use hub_domain::ids::VmaNodeId;
use hub_domain::limits::VmaLimits;
use hub_domain::repository::RepositorySettings;
use hub_domain::vm::VmContext;
use hub_ports::Store as _;
use hub_testkit::{MemStore, fixtures};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Options, Supervisor};

type Begun = mpsc::UnboundedReceiver<u32>;

struct Bench {
    supervisor: Supervisor,
    begun: mpsc::UnboundedSender<u32>,
    node: VmaNode,
}

impl Bench {
    fn new(hub: u32) -> (Self, Begun) {
        let limit = CopyCount::new(hub).unwrap();
        let options = Options { concurrent_copies: limit, ..Options::default() };
        let (begun, beginnings) = mpsc::unbounded_channel();
        let node = fixtures::vma_node(1, "site-a");
        (Self { supervisor: Supervisor::new(options), begun, node }, beginnings)
    }

    fn limit_vma(&mut self, copies: Option<u32>) {
        let copies = copies.map(|copies| CopyCount::new(copies).unwrap());
        self.node.limits = VmaLimits { copies, rate: None };
        self.supervisor.copies().set_vma(&self.node);
    }

    /// A copy that says when it begins, and lasts until it is cancelled.
    fn copy(&self, id: u32, vma: Option<VmaNodeId>) {
        let begun = self.begun.clone();
        let needs = CopyNeeds { vma, ..CopyNeeds::default() };
        let work = move |cancel: CancellationToken| async move {
            // One that was cancelled in line gets its turn only to end its record.
            let number = if cancel.is_cancelled() { 1000 + id } else { id };
            begun.send(number).ok();
            cancel.cancelled().await;
        };
        self.supervisor.spawn_copy("copy", key(id), needs, work).unwrap();
    }

    fn copy_from_vma(&self, id: u32) {
        self.copy(id, Some(self.node.id));
    }

    fn end(&self, id: u32) {
        assert!(self.supervisor.cancel(&key(id)));
    }

    fn reason(&self, id: u32) -> Option<String> {
        self.supervisor.copies().waiting(&key(id)).map(|waiting| waiting.reason)
    }

    async fn stop(self) {
        self.supervisor.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

fn key(id: u32) -> JobKey {
    JobKey::new("copy", id)
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_limited_vma_take_turns_and_say_why_they_wait() {
    let (mut bench, mut begun) = Bench::new(9);
    bench.limit_vma(Some(1));
    for id in 1..=4 {
        bench.copy_from_vma(id);
    }
    bench.copy(5, None);
    assert_eq!((begun.recv().await, begun.recv().await), (Some(1), Some(5)));
    let in_line = |place: &str| format!("1 of 1 copies of VMA site-a are at work; {place} in line");
    assert_eq!(bench.reason(1), None);
    assert_eq!(bench.reason(2), Some(in_line("1st")));
    assert_eq!(bench.reason(4), Some(in_line("3rd")));
    bench.end(1);
    assert_eq!(begun.recv().await, Some(2));
    assert_eq!(bench.reason(4), Some(in_line("2nd")));
    assert!(begun.try_recv().is_err());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn p9_a_waiter_that_is_cancelled_leaves_the_line_at_once() {
    let (bench, mut begun) = Bench::new(1);
    for id in 1..=3 {
        bench.copy(id, None);
    }
    assert_eq!(begun.recv().await, Some(1));
    assert_eq!(
        bench.reason(3).as_deref(),
        Some("1 of 1 copies of the hub are at work; 2nd in line")
    );
    bench.end(2);
    assert_eq!(begun.recv().await, Some(1002));
    assert_eq!(
        bench.reason(3).as_deref(),
        Some("1 of 1 copies of the hub are at work; 1st in line")
    );
    bench.end(1);
    assert_eq!(begun.recv().await, Some(3));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_wakes_waiters_and_a_lowered_one_stops_nobody() {
    let (mut bench, mut begun) = Bench::new(9);
    bench.limit_vma(Some(1));
    for id in 1..=5 {
        bench.copy_from_vma(id);
    }
    assert_eq!(begun.recv().await, Some(1));
    bench.limit_vma(Some(3));
    assert_eq!((begun.recv().await, begun.recv().await), (Some(2), Some(3)));
    bench.limit_vma(Some(1));
    let reason = bench.reason(4);
    let expected = "3 of 1 copies of VMA site-a are at work; 1st in line";
    assert_eq!(reason.as_deref(), Some(expected));
    bench.end(1);
    bench.end(2);
    tokio::task::yield_now().await;
    assert!(begun.try_recv().is_err(), "two of three have ended, and one is still at work");
    bench.limit_vma(None);
    assert_eq!((begun.recv().await, begun.recv().await), (Some(4), Some(5)));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_panics_gives_its_slot_back() {
    let (bench, mut begun) = Bench::new(1);
    let needs = CopyNeeds::default();
    let spawned = bench.supervisor.spawn_copy("panic", key(1), needs, |_| async { panic!("no") });
    spawned.unwrap();
    bench.copy(2, None);
    assert_eq!(begun.recv().await, Some(2));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn p8_a_job_that_is_known_does_not_join_the_line_twice() {
    let (bench, mut begun) = Bench::new(1);
    bench.copy(1, None);
    bench.copy(2, None);
    let needs = CopyNeeds::default();
    let again = bench.supervisor.spawn_copy("copy", key(2), needs, |_| async {});
    assert_eq!(again, Err(crate::NotSpawned::Known));
    assert_eq!(begun.recv().await, Some(1));
    bench.copy(3, None);
    let reason = bench.reason(3);
    assert_eq!(reason.as_deref(), Some("1 of 1 copies of the hub are at work; 2nd in line"));
    bench.stop().await;
}

/// Whoever changes a limit is waited for: what was read before the change must not be taken in after it.
#[tokio::test(start_paused = true)]
async fn a_copy_that_asks_for_its_limits_while_one_is_changed_gets_the_new_one() {
    let slots = CopySlots::new(CopyCount::DEFAULT);
    let store = MemStore::default();
    let mut node = fixtures::vma_node(1, "site-a");
    let vm = fixtures::vm_context(1, fixtures::vm_facts("vm", "vm-1"), Some(node.id));
    let mut work = store.begin().await.unwrap();
    work.insert_vma_node(&node).await.unwrap();
    work.insert_vms(std::slice::from_ref(&vm)).await.unwrap();
    work.commit().await.unwrap();

    let changing = slots.settings().await;
    let mut view = store.view().await.unwrap();
    let mut asked = Box::pin(slots.needs_of(view.as_mut(), vm.id, vm.vma_node, None));
    assert!(futures::poll!(asked.as_mut()).is_pending());
    node.limits.copies = CopyCount::new(1).ok();
    let mut work = store.begin().await.unwrap();
    work.update_vma_node(&node).await.unwrap();
    work.commit().await.unwrap();
    slots.set_vma(&node);
    drop(changing);
    let needs = asked.await.unwrap();
    let _at_work = slots.join(key(1), needs);
    let _waits = slots.join(key(2), needs);
    assert_eq!(slots.waiting(&key(2)).map(|it| it.wait.limit), Some(1));
}

#[test]
fn a_repository_is_named_and_kept_places_are_told() {
    let slots = CopySlots::new(CopyCount::new(9).unwrap());
    let mut node = fixtures::vma_node(1, "site-a");
    node.limits.copies = CopyCount::new(1).ok();
    let mut repository = fixtures::repository(1, "shelf");
    let copies = CopyCount::new(1).ok();
    repository.settings = RepositorySettings { copies, ..RepositorySettings::default() };
    slots.set_vma(&node);
    slots.set_repository(&repository);
    let to_shelf = |vma| CopyNeeds { vma, repository: Some(repository.id), source: None };
    let _at_work = slots.join(key(1), to_shelf(None));
    let _first = slots.join(key(2), to_shelf(Some(node.id)));
    let _second = slots.join(key(3), CopyNeeds { vma: Some(node.id), ..CopyNeeds::default() });
    let reasons: Vec<String> = slots.all_waiting().into_values().map(|it| it.reason).collect();
    assert_eq!(
        reasons,
        [
            "1 of 1 copies to repository shelf are at work; 1st in line",
            "0 of 1 copies of VMA site-a are at work, 1 kept for earlier jobs; 1st in line",
        ]
    );
}

#[test]
fn places_are_counted_as_people_do() {
    let words = [1, 2, 3, 4, 11, 12, 13, 21, 101, 111].map(ordinal);
    assert_eq!(
        words,
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th"]
    );
}

/// What fills a VMA may be another's, and end without a word to this hub.
#[tokio::test(start_paused = true)]
async fn a_vma_that_takes_no_more_is_asked_again_after_a_while() {
    let (mut bench, mut begun) = Bench::new(9);
    bench.limit_vma(None);
    for id in 1..=2 {
        bench.copy_from_vma(id);
        assert_eq!(begun.recv().await, Some(id));
    }
    let copies = bench.supervisor.copies().clone();
    copies.refused(CopyNeeds { vma: Some(bench.node.id), ..CopyNeeds::default() });
    bench.end(2);
    while bench.supervisor.tasks().contains(&key(2)) {
        tokio::task::yield_now().await;
    }
    bench.copy_from_vma(3);
    let full = "VMA site-a takes no more jobs than it has, 1 of them from this hub; 1st in line";
    assert_eq!(bench.reason(3), Some(full.to_owned()));
    tokio::time::advance(ASK_AGAIN_AFTER - Duration::from_secs(1)).await;
    copies.ask_again();
    assert_eq!(bench.reason(3), Some(full.to_owned()));
    tokio::time::advance(Duration::from_secs(1)).await;
    copies.ask_again();
    assert_eq!(begun.recv().await, Some(3));
    // One that ends makes room at once.
    copies.refused(CopyNeeds { vma: Some(bench.node.id), ..CopyNeeds::default() });
    bench.copy_from_vma(4);
    assert!(bench.reason(4).is_some());
    bench.end(1);
    bench.end(3);
    assert_eq!(begun.recv().await, Some(4));
    bench.stop().await;
}

#[tokio::test]
async fn logins_for_one_vcenter_share_its_limit_and_the_lowest_holds() {
    let store = MemStore::default();
    let vm = |id, credential: Option<CredentialId>| VmContext {
        credential,
        ..fixtures::vm_context(id, fixtures::vm_facts("vm", &format!("vm-{id}")), None)
    };
    let mut logins =
        [fixtures::credential(7, "a"), fixtures::credential(5, "b"), fixtures::credential(6, "c")];
    logins[0].copies = CopyCount::new(3).ok();
    logins[1].vcenter_host = "https://VC.example.local/sdk".to_owned();
    logins[1].copies = CopyCount::new(2).ok();
    logins[2].vcenter_host = "another.example.local".to_owned();
    let mut work = store.begin().await.unwrap();
    for login in &logins {
        work.insert_credential(login).await.unwrap();
    }
    let vms = [
        vm(1, Some(logins[0].id)),
        vm(2, Some(logins[1].id)),
        vm(3, Some(logins[2].id)),
        vm(4, None),
    ];
    work.insert_vms(&vms).await.unwrap();
    work.commit().await.unwrap();
    let slots = CopySlots::new(CopyCount::DEFAULT);
    let mut view = store.view().await.unwrap();
    let mut needs = Vec::new();
    for vm in &vms {
        needs.push(slots.needs_of(view.as_mut(), vm.id, vm.vma_node, None).await.unwrap());
    }
    let sources: Vec<_> = needs.iter().map(|it| it.source).collect();
    let (here, there) = (Some(logins[1].id), Some(logins[2].id));
    assert_eq!(sources, [here, here, there, None]);
    let _at_work = [slots.join(key(1), needs[0]), slots.join(key(2), needs[1])];
    let _third = slots.join(key(3), needs[0]);
    let _elsewhere = slots.join(key(4), needs[2]);
    let waiting = slots.all_waiting();
    assert_eq!(waiting.len(), 1);
    let reason = &waiting[&key(3)].reason;
    assert_eq!(reason, "2 of 2 copies from https://VC.example.local/sdk are at work; 1st in line");
}
