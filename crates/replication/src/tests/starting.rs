//! Starting: the same rows, one job, and a VM of an older catalogue.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hub_domain::job::JobStatus;
use hub_domain::replication::{ReplicaFormat, ReplicationKind};
use hub_domain::vm::{ContextStatus, VmAddress};
use hub_ports::{Classify, ErrorClass, IdGen, Store};
use hub_testkit::{SeqIds, fixtures};
use uuid::Uuid;

use super::bench::{Bench, ended, request};
use crate::{Replication, StartReplication, StartReplicationError};

use ReplicationKind::{Incremental, Initial};

#[tokio::test(start_paused = true)]
async fn story_2_a_replication_links_the_rows_that_discovery_stored() {
    let bench = Bench::new().await.unwrap();
    let before = bench.links().await.unwrap();
    let ids: Vec<i64> = before.iter().map(|(id, _)| *id).collect();
    assert!(before.len() == 2 && before.iter().all(|(_, job)| job.is_none()));
    let job = bench.start(Initial).await.unwrap();
    let linked: Vec<_> = ids.iter().map(|id| (*id, Some(job.id))).collect();
    assert_eq!(bench.links().await.unwrap(), linked);
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Replicating);
    assert_eq!(bench.vma.inventory_calls(), 0);
    let copied: Vec<_> = job.disks.iter().map(|disk| (disk.disk.as_raw(), disk.ordinal)).collect();
    assert_eq!(copied, [(ids[0], 0), (ids[1], 1)]);
    let job = bench.run(job.id).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Succeeded, None));
    assert_eq!(bench.links().await.unwrap(), linked);
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::ReadyForFailover);
    bench.engine.delete(job.id).await.unwrap();
    assert_eq!(bench.links().await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn story_5_a_vm_without_rows_gets_them_by_asking_its_vma_once() {
    let bench = Bench::legacy(1).await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    assert_eq!(bench.vma.inventory_calls(), 1);
    let disks = bench.disks().await.unwrap();
    let facts: Vec<_> =
        disks.iter().map(|it| (it.ordinal, it.facts.capacity.bytes(), it.job)).collect();
    let linked = Some(job.id);
    assert_eq!(facts, [(0, fixtures::BIG, linked), (1, fixtures::SMALL, linked)]);
    let vma = fixtures::vma_node(1, "vma1").id;
    assert_eq!(bench.vm().await.unwrap().vma_node, Some(vma));
    assert_eq!(bench.run(job.id).await.unwrap().state.status(), JobStatus::Succeeded);
    let ids: Vec<i64> = disks.iter().map(|disk| disk.id.as_raw()).collect();
    let again = bench.replicate(Incremental).await.unwrap();
    assert_eq!(again.state.status(), JobStatus::Succeeded);
    let links = bench.links().await.unwrap();
    assert_eq!(links, [(ids[0], Some(again.id)), (ids[1], Some(again.id))]);
    assert_eq!(bench.vma.inventory_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn promise_p8_the_same_request_is_the_same_job_and_another_is_refused() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let started = bench.engine.start(&request(Initial)).await.unwrap();
    let (same, new) = (started.job, started.is_new);
    assert_eq!((same.id, new), (job.id, false));
    for other in [
        request(Incremental),
        StartReplication { format: ReplicaFormat::Qcow2, ..request(Initial) },
    ] {
        let error = bench.engine.start(&other).await.unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("replication/already-running", ErrorClass::Conflict)
        );
        assert!(error.to_string().contains(&job.id.to_string()), "{error}");
    }
    bench.run(job.id).await.unwrap();
    let started = bench.engine.start(&request(Initial)).await.unwrap();
    let (next, new) = (started.job, started.is_new);
    assert!(new && next.id != job.id);
}

type Answer = Result<crate::Started, StartReplicationError>;

/// Gives ids, and in the middle of the first unit of work that wants one, carries out another whole request.
struct Meddler {
    ids: SeqIds,
    other: Mutex<Option<(Replication, StartReplication)>>,
    answer: Mutex<Option<Answer>>,
}

impl IdGen for Meddler {
    fn new_id(&self) -> Uuid {
        let other = self.other.lock().ok().and_then(|mut other| other.take());
        if let Some((engine, request)) = other
            && let Poll::Ready(answer) =
                pin!(engine.start(&request)).poll(&mut Context::from_waker(Waker::noop()))
            && let Ok(mut place) = self.answer.lock()
        {
            *place = Some(answer);
        }
        self.ids.new_id()
    }
}

/// Starts `first`, and `other` while the unit of work of the first one is open.
async fn interleaved(
    bench: &Bench,
    first: StartReplication,
    other: StartReplication,
) -> (Answer, Option<Answer>) {
    let mut engine = bench.engine.clone();
    let meddler = Arc::new(Meddler {
        ids: SeqIds::default(),
        other: Mutex::new(Some((bench.engine.clone(), other))),
        answer: Mutex::default(),
    });
    engine.ids = meddler.clone();
    let answer = engine.start(&first).await;
    let other = meddler.answer.lock().ok().and_then(|mut answer| answer.take());
    (answer, other)
}

#[tokio::test(start_paused = true)]
async fn promise_p8_two_interleaved_requests_make_one_job() {
    for bench in [Bench::new().await.unwrap(), Bench::legacy(1).await.unwrap()] {
        let (first, other) = interleaved(&bench, request(Initial), request(Initial)).await;
        let started = other.unwrap().unwrap();
        let (other, new) = (started.job, started.is_new);
        assert!(new, "the second was first");
        let started = first.unwrap();
        let (first, new) = (started.job, started.is_new);
        assert_eq!((first.id, new), (other.id, false));
        assert_eq!(bench.jobs().await.unwrap().len(), 1);
        let links = bench.links().await.unwrap();
        assert!(links.len() == 2 && links.iter().all(|(_, job)| *job == Some(other.id)));
    }
}

#[tokio::test(start_paused = true)]
async fn promise_p8_of_two_different_interleaved_requests_one_is_refused() {
    let bench = Bench::new().await.unwrap();
    let (first, other) = interleaved(&bench, request(Initial), request(Incremental)).await;
    assert_eq!(other.unwrap().unwrap().job.kind, Incremental);
    assert_eq!(first.unwrap_err().code(), "replication/already-running");
    assert_eq!(bench.jobs().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn promise_p8_two_requests_at_once_make_one_job() {
    let bench = Bench::new().await.unwrap();
    let (one, other) = (request(Initial), request(Initial));
    let (one, other) = tokio::join!(bench.engine.start(&one), bench.engine.start(&other));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.job.id, other.job.id);
    assert!(one.is_new != other.is_new, "exactly one is new");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_and_an_ambiguous_vm_are_refused() {
    let bench = Bench::new().await.unwrap();
    let named =
        |name: &str| StartReplication { vm: VmAddress::Name(name.to_owned()), ..request(Initial) };
    let error = bench.engine.start(&named("nobody")).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("vm/not-found", ErrorClass::NotFound));
    let mut work = bench.store.begin().await.unwrap();
    let twin = fixtures::vm_context(78, fixtures::vm_facts("pgtest1", "vm-2"), None);
    work.insert_vms(&[twin]).await.unwrap();
    work.commit().await.unwrap();
    let error = bench.engine.start(&named("pgtest1")).await.unwrap_err();
    assert_eq!((error.code(), error.candidates().len()), ("vm/ambiguous-name", 2));
    let vm = VmAddress::Id(error.candidates()[0].id);
    let by_id = StartReplication { vm, ..request(Initial) };
    assert!(bench.engine.start(&by_id).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_vm_without_disks_anywhere_is_refused_and_stays_as_it_was() {
    let bench = Bench::legacy(1).await.unwrap();
    let mut seen = fixtures::pgtest1().unwrap();
    seen.disks.clear();
    for (inventory, code) in [
        (fixtures::inventory(vec![seen]), "replication/no-disks"),
        (fixtures::inventory(Vec::new()), "discovery/vm-gone"),
    ] {
        bench.vma.set_inventory(inventory);
        let error = bench.engine.start(&request(Initial)).await.unwrap_err();
        assert_eq!((error.code(), error.class()), (code, ErrorClass::Conflict));
    }
    bench.vma.set_reachable(false);
    let error = bench.engine.start(&request(Initial)).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("vma/unreachable", ErrorClass::Unavailable));
    assert!(bench.jobs().await.unwrap().is_empty());
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
}

#[tokio::test(start_paused = true)]
async fn trap_c7_a_vm_that_cannot_be_reached_is_refused_before_anything_is_stored() {
    let bench = Bench::legacy(2).await.unwrap();
    let error = bench.engine.start(&request(Initial)).await.unwrap_err();
    assert_eq!(error.code(), "vm/no-vma");
    let vma = fixtures::vma_node(1, "vma1").id;
    let mut vm = bench.vm().await.unwrap();
    vm.vma_node = Some(vma);
    let login = fixtures::credential(5, "vc");
    vm.credential = Some(login.id);
    let mut work = bench.store.begin().await.unwrap();
    work.insert_credential(&login).await.unwrap();
    work.update_vm(&vm).await.unwrap();
    work.commit().await.unwrap();
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    let ordered = bench.vma.orders()[0].credential.clone();
    assert_eq!(ordered.map(|it| it.id), Some(login.id));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_copied_refuses_the_whole_replication() {
    let bench = Bench::new().await.unwrap();
    let mut disks = bench.disks().await.unwrap();
    disks[1].facts.conditions.rdm = Some("physical".to_owned());
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&disks).await.unwrap();
    work.commit().await.unwrap();
    let refused = bench.engine.start(&request(Initial)).await.unwrap_err();
    assert_eq!((refused.code(), refused.class()), ("preflight/physical-rdm", ErrorClass::Conflict));
    assert!(bench.jobs().await.unwrap().is_empty());
    assert!(bench.links().await.unwrap().iter().all(|(_, job)| job.is_none()));
}
