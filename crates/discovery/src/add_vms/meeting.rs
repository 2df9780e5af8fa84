//! Two requests that add the same VMs, interleaved by hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hub_domain::inventory::SeenInventory;
use hub_ports::IdGen;
use hub_testkit::fixtures;
use uuid::Uuid;

use super::tests::Bench;
use super::*;

/// Gives ids, and before the chosen one carries out another whole request.
struct Meddler {
    ids: Arc<dyn IdGen>,
    given: AtomicUsize,
    at: usize,
    other: Mutex<Option<Discovery>>,
}

impl IdGen for Meddler {
    fn new_id(&self) -> Uuid {
        if self.given.fetch_add(1, Ordering::Relaxed) + 1 == self.at
            && let Some(other) = self.other.lock().ok().and_then(|mut other| other.take())
        {
            let request = all();
            let adding = std::pin::pin!(other.add_vms(&request));
            let done = adding.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(done, Poll::Ready(Ok(report)) if report.failed() == 0));
        }
        self.ids.new_id()
    }
}

fn all() -> AddVms {
    AddVms { source: SourceChoice::default(), wanted: Wanted::All }
}

fn two() -> anyhow::Result<SeenInventory> {
    let mut other = fixtures::seen_vm("web", "vm-2", Vec::new());
    other.disks = vec![fixtures::disk("disk-2000", 1 << 30)?];
    Ok(fixtures::inventory(vec![fixtures::pgtest1()?, other]))
}

#[tokio::test(start_paused = true)]
async fn promise_p8_two_interleaved_adds_store_each_vm_once_with_its_disks() {
    // Ids are wanted before the unit of work for the first plan, and inside it for the second.
    for at in 1..=4 {
        let bench = Bench::new(two().unwrap()).await.unwrap();
        let meddler = Arc::new(Meddler {
            ids: bench.discovery.ids.clone(),
            given: AtomicUsize::new(0),
            at,
            other: Mutex::new(Some(bench.discovery.clone())),
        });
        let first = Discovery { ids: meddler.clone(), ..bench.discovery.clone() };
        let report = first.add_vms(&all()).await.unwrap();
        assert!(meddler.other.lock().unwrap().is_none(), "they have met at {at}");
        assert_eq!(report.failed(), 0, "{at}: {report:?}");
        let stored = bench.stored().await.unwrap();
        assert_eq!(stored.iter().map(|(_, disks)| disks.len()).collect::<Vec<_>>(), [2, 1]);
        for (result, (vm, _)) in report.results.iter().zip(&stored) {
            assert_eq!(result.outcome.as_ref().unwrap().id, vm.id, "the id told is the one stored");
        }
    }
}
