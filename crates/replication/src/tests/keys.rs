//! Keys that pass from one disk to another: a replica is of a row, and a key is whose it is now.

use hub_domain::capacity::Capacity;
use hub_domain::disk::{NewDisk, Presence};
use hub_domain::job::JobStatus;
use hub_domain::replication::ReplicationKind::Initial;
use hub_domain::time::Timestamp;
use hub_ports::Store as _;

use super::bench::{Bench, ended};

/// A retired disk keeps the key that another one has now.
#[tokio::test(start_paused = true)]
async fn trap_d8_what_is_ordered_is_the_disk_that_has_the_key_now() {
    let bench = Bench::new().await.unwrap();
    let mut gone = bench.disks().await.unwrap().remove(0);
    let mut facts = gone.facts.clone();
    facts.capacity = Capacity::new(2 * gone.facts.capacity.bytes()).unwrap();
    gone.presence = Presence::Retired;
    let new = NewDisk { vm: gone.vm, ordinal: 2, facts: facts.clone() };
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&[gone]).await.unwrap();
    work.insert_disks(&[new], Timestamp::UNIX_EPOCH).await.unwrap();
    work.commit().await.unwrap();
    bench.replicate(Initial).await.unwrap();
    let order = bench.vma.orders().remove(0);
    let ordered = order.disks.iter().find(|disk| disk.key == facts.key).unwrap();
    assert_eq!(ordered.capacity, facts.capacity);
}

/// Somebody may exchange the disk while the order waits, and only the VMA sees that.
#[tokio::test(start_paused = true)]
async fn trap_d8_an_order_names_the_disk_behind_its_key() {
    let bench = Bench::new().await.unwrap();
    let mut disk = bench.disks().await.unwrap().remove(0);
    disk.facts.backing_uuid = Some("6000c29".to_owned());
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&[disk]).await.unwrap();
    work.commit().await.unwrap();
    bench.replicate(Initial).await.unwrap();
    let order = bench.vma.orders().remove(0);
    let named: Vec<_> = order.disks.iter().map(|it| it.backing_uuid.as_deref()).collect();
    assert_eq!(named, [Some("6000c29"), None]);
}

/// A replica is of a row; what has its key by the time that the job begins may be another disk.
#[tokio::test(start_paused = true)]
async fn trap_d8_disks_that_swap_their_keys_while_a_job_waits_are_not_swapped_in_it() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let mut disks = bench.disks().await.unwrap();
    let keys = [disks[1].facts.key.clone(), disks[0].facts.key.clone()];
    for (disk, key) in disks.iter_mut().zip(keys) {
        disk.facts.key = key;
    }
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&disks).await.unwrap();
    work.commit().await.unwrap();
    let job = bench.run(job.id).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Failed, Some("replication/disk-gone")));
    assert!(bench.vma.orders().is_empty());
}
