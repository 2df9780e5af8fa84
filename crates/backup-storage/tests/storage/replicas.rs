//! Replicas: current after each run, and never taken for complete after a broken one.

use anyhow::Result;
use hub_domain::capacity::Capacity;
use hub_domain::replication::ReplicaFormat;
use hub_domain::source::PreparedTarget;
use hub_ports::{PrepareReplica, ReplicaStorage, StorageError};

use super::fixture::{DISK, Hub, SIZE, VM, judge, pattern, polled, push};

fn order(format: ReplicaFormat, size: usize, incremental: bool) -> Result<PrepareReplica> {
    let capacity = Capacity::new(size as u64)?;
    Ok(PrepareReplica { vm: VM, disk: DISK, capacity, format, incremental, resume: false })
}

async fn run(
    hub: &Hub,
    format: ReplicaFormat,
    disk: &[u8],
    incremental: bool,
) -> Result<PreparedTarget> {
    let target = hub.storage.prepare_replica(&order(format, disk.len(), incremental)?).await?;
    let root = push(disk, &target).await?;
    assert_eq!(hub.storage.seal_replica(&target, &root).await?, root);
    let image = hub.folder.path().join("replicas").join(&target.path);
    judge(&image, format.word(), disk)?;
    Ok(target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_brought_up_to_date_in_place() -> Result<()> {
    for format in [ReplicaFormat::Raw, ReplicaFormat::Qcow2] {
        let hub = Hub::start().await?;
        let mut disk = pattern(SIZE, 1);
        disk[65_536..131_072].fill(0);
        let first = run(&hub, format, &disk, true).await?;
        assert!(first.parent.is_none() && first.no_parent_reason.is_some());
        disk[65_600..66_000].fill(3);
        disk[131_072..196_608].fill(0);
        let second = run(&hub, format, &disk, true).await?;
        assert!(second.parent.is_some(), "{:?}", second.no_parent_reason);
        assert_eq!(first.path, second.path);
        let third = run(&hub, format, &disk, false).await?;
        assert!(third.parent.is_none());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_run_is_followed_by_a_whole_one() -> Result<()> {
    for format in [ReplicaFormat::Raw, ReplicaFormat::Qcow2] {
        let hub = Hub::start().await?;
        let mut disk = pattern(SIZE, 1);
        run(&hub, format, &disk, false).await?;
        disk[0] ^= 1;
        let target = hub.storage.prepare_replica(&order(format, SIZE, true)?).await?;
        push(&disk, &target).await?;
        hub.storage.release_replica(&target).await?;
        hub.storage.release_replica(&target).await?;
        let next = run(&hub, format, &disk, true).await?;
        assert!(next.parent.is_none() && next.no_parent_reason.is_some());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grown_disk_grows_a_raw_replica_and_rewrites_a_qcow2_one() -> Result<()> {
    for (format, in_place) in [(ReplicaFormat::Raw, true), (ReplicaFormat::Qcow2, false)] {
        let hub = Hub::start().await?;
        let mut disk = pattern(SIZE, 1);
        run(&hub, format, &disk, false).await?;
        disk.extend(pattern(70_000 / 512 * 512, 2));
        let grown = run(&hub, format, &disk, true).await?;
        assert_eq!(grown.parent.is_some(), in_place, "{:?}", grown.no_parent_reason);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_are_refused_and_disagreeing_ends_are_not_sealed() -> Result<()> {
    let hub = Hub::start().await?;
    let first = hub.storage.prepare_replica(&order(ReplicaFormat::Raw, SIZE, false)?).await?;
    let second = hub.storage.prepare_replica(&order(ReplicaFormat::Raw, SIZE, false)?).await;
    assert!(matches!(second, Err(StorageError::Exists { .. })), "{second:?}");
    push(&pattern(SIZE, 1), &first).await?;
    let refused = hub.storage.seal_replica(&first, &"00".repeat(32)).await;
    assert!(matches!(refused, Err(StorageError::ProofMismatch { .. })), "{refused:?}");
    let next = run(&hub, ReplicaFormat::Raw, &pattern(SIZE, 1), true).await?;
    assert!(next.parent.is_none());
    Ok(())
}

/// Promise P7: whoever starts a replica writes to it, and its digests then describe another disk.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_replica_that_somebody_else_wrote_to_is_read_in_full() -> Result<()> {
    for format in [ReplicaFormat::Raw, ReplicaFormat::Qcow2] {
        let hub = Hub::start().await?;
        let disk = pattern(SIZE, 1);
        let first = run(&hub, format, &disk, false).await?;
        let image = hub.folder.path().join("replicas").join(&first.path);
        let mut bytes = std::fs::read(&image)?;
        let at = bytes.windows(512).position(|it| *it == disk[..512]).unwrap_or_default();
        bytes[at + 3] ^= 1;
        std::fs::write(&image, bytes)?;
        let next = run(&hub, format, &disk, true).await?;
        assert!(next.parent.is_none(), "{format:?}: stood upon a disk that it does not hold");
        assert!(next.no_parent_reason.is_some_and(|why| why.contains("written")));
        assert!(run(&hub, format, &disk, true).await?.parent.is_some());
    }
    Ok(())
}

/// Promise P7: bytes cut off the end would come back as zeroes when the file is made as long as the disk again.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_replica_that_was_cut_is_read_in_full() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    let first = run(&hub, ReplicaFormat::Raw, &disk, false).await?;
    let image = hub.folder.path().join("replicas").join(&first.path);
    let file = std::fs::OpenOptions::new().write(true).open(&image)?;
    let before = file.metadata()?.modified()?;
    file.set_len(70_000)?;
    file.set_modified(before)?;
    drop(file);
    let next = run(&hub, ReplicaFormat::Raw, &disk, true).await?;
    assert!(next.parent.is_none(), "stood upon half a disk");
    Ok(())
}

/// Trap U25: a seal whose caller has gone goes on for a while; it must not touch what the next run writes.
#[tokio::test(flavor = "multi_thread")]
async fn trap_u25_a_seal_that_was_dropped_does_not_meddle_with_the_next_run() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    let order = order(ReplicaFormat::Raw, SIZE, true)?;
    let mut sealed = false;
    for polls in 1..40_usize {
        let target = hub.storage.prepare_replica(&order).await?;
        let root = push(&disk, &target).await?;
        sealed = polled(polls, hub.storage.seal_replica(&target, &root)).await;
        let next = loop {
            match hub.storage.prepare_replica(&order).await {
                Err(StorageError::Exists { .. }) => tokio::task::yield_now().await,
                other => break other?,
            }
        };
        let root = push(&disk, &next).await?;
        hub.storage.seal_replica(&next, &root).await?;
        if sealed {
            break;
        }
    }
    assert!(sealed, "it was never sealed");
    Ok(())
}

/// Promise P2: what a hub that died left of a replica goes at the next start, and a complete one stays.
#[tokio::test(flavor = "multi_thread")]
async fn p2_unfinished_manifests_of_replicas_are_swept_and_complete_ones_are_not() -> Result<()> {
    let hub = Hub::start().await?;
    assert_eq!(hub.storage.sweep_replicas().await?, 0);
    let disk = pattern(SIZE, 1);
    let target = run(&hub, ReplicaFormat::Raw, &disk, false).await?;
    let image = hub.folder.path().join("replicas").join(&target.path);
    let manifest = image.with_extension("raw.manifest");
    let partial = image.with_extension("raw.manifest.partial");
    std::fs::write(&partial, b"of a hub that died")?;
    assert_eq!(hub.storage.sweep_replicas().await?, 1);
    assert!(!partial.exists() && manifest.exists() && image.exists());
    Ok(())
}
