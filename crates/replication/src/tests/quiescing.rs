//! Whether a guest is to be at rest, whether it was, and by which way its disks were read.

use hub_domain::source::{Quiescence, ReadBy};
use hub_testkit::CopyScript;

use super::bench::{Bench, request};
use crate::StartReplication;

use hub_domain::replication::ReplicationKind::{Incremental, Initial};

#[tokio::test(start_paused = true)]
async fn a_replication_says_whether_its_guest_is_to_be_at_rest_and_whether_it_was() {
    let bench = Bench::new().await.unwrap();
    let reason = Some("no tools in the guest".to_owned());
    let quiescence = Some(Quiescence { quiesced: false, reason });
    let read_by = Some(ReadBy { reader: "https".to_owned(), reason: None });
    bench.vma.script(CopyScript {
        quiescence: quiescence.clone(),
        read_by: read_by.clone(),
        ..CopyScript::default()
    });
    let asked = StartReplication { quiesce: Some(true), ..request(Initial) };
    let started = bench.engine.start(&asked).await.unwrap().job;
    assert_eq!(started.quiesce, Some(true));
    assert!(bench.engine.start(&request(Initial)).await.is_err(), "it asks for something else");
    assert!(!bench.engine.start(&asked).await.unwrap().is_new);
    let job = bench.run(started.id).await.unwrap();
    assert_eq!(bench.vma.orders()[0].quiesce, Some(true));
    assert_eq!(job.quiescence, quiescence);
    assert!(job.disks.iter().all(|disk| disk.read_by == read_by));
    bench.vma.script(CopyScript::default());
    let job = bench.replicate(Incremental).await.unwrap();
    assert_eq!(bench.vma.orders()[1].quiesce, None, "as the VMA is set up");
    assert_eq!(job.quiescence, None);
    assert!(job.disks.iter().all(|disk| disk.read_by.is_none()));
}
