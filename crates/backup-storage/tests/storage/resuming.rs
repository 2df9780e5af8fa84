//! Attempts that go on: in the same process, and from what a killed one left, however much of that is lost or garbled.

use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hub_block::BlockDevice;
use hub_domain::compression::{Compression, ZstdLevel};
use hub_domain::source::PreparedTarget;
use hub_ports::{BackupStorage, PrepareImage};
use tokio::time::{Instant, sleep};

use super::fixture::{DISK, Hub, VM, dial, image_path, judge, pattern, push, qemu_img, run, seal};

/// Sixteen clusters and an odd end.
const SIZE: usize = 16 * 65_536 + 1_536;
const OFTEN: Duration = Duration::from_millis(10);

/// Sends clusters of a disk, as a copy does that does not come to its end.
pub(crate) async fn send(
    disk: &[u8],
    target: &PreparedTarget,
    clusters: std::ops::Range<usize>,
) -> Result<()> {
    let client = dial(&target.address).await?;
    for cluster in clusters {
        let at = cluster * 65_536;
        client.write_at(at as u64, Bytes::copy_from_slice(&disk[at..at + 65_536])).await?;
    }
    client.close().await;
    Ok(())
}

fn again(hub: &Hub) -> Result<PrepareImage> {
    Ok(PrepareImage { resume: true, ..hub.order(1, SIZE, None)? })
}

/// Brings an attempt to its end and judges the point by the disk.
async fn complete(hub: &Hub, target: PreparedTarget, disk: &[u8]) -> Result<()> {
    let root = push(disk, &target).await?;
    hub.storage.seal_image(&seal(1, target, root, None)?).await?;
    judge(&hub.file(&image_path(1)), "qcow2", disk)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(hub.file(&format!("{VM}/disk-{DISK}")))? {
        names.push(entry?.file_name());
    }
    ensure!(names.len() == 2, "an image and its manifest: {names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_takes_up_what_the_one_before_has_brought_and_nothing_of_its_instant()
-> Result<()> {
    let hub = Hub::start().await?;
    let old = pattern(SIZE, 1);
    let first = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let stray = Arc::new(dial(&first.address).await?);
    send(&old, &first, 0..9).await?;
    // The source has changed before the second attempt, also where nothing had been sent.
    let mut now = old.clone();
    now[3 * 65_536..4 * 65_536].copy_from_slice(&pattern(SIZE, 2)[..65_536]);
    now[12 * 65_536..13 * 65_536].fill(0);
    let second = hub.storage.prepare_image(&again(&hub)?).await?;
    assert_eq!(second.kept_bytes, Some(9 * 65_536));
    assert_ne!(second.address.export, first.address.export);
    let late = stray.write_at(0, Bytes::from(vec![9; 65_536])).await;
    assert!(late.is_err(), "what comes late finds no target");
    complete(&hub, second, &now).await
}

/// A directory as a killed process leaves it, with another hub over it.
async fn killed(hub: &Hub) -> Result<Hub> {
    let mut next = Hub::with_checkpoints(OFTEN).await?;
    next.repository.settings = hub.repository.settings;
    copy_tree(Path::new(&hub.repository.path), Path::new(&next.repository.path))?;
    Ok(next)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn journal(hub: &Hub) -> std::path::PathBuf {
    hub.file(&format!("{}.journal.partial", image_path(1)))
}

/// How many clusters a journal tells of: a head of 44 bytes, then counts, runs of 24 bytes and digests.
fn told(path: &Path) -> Result<u64> {
    let bytes = fs::read(path).unwrap_or_default();
    let (mut at, mut clusters) = (44, 0);
    while let Some(count) = bytes.get(at..at + 4) {
        let runs = u32::from_le_bytes(count.try_into()?) as usize;
        for run in bytes.get(at + 4..at + 4 + runs * 24).unwrap_or_default().chunks(24) {
            clusters += u64::from_le_bytes(run[16..].try_into()?);
        }
        at += 4 + runs * 24 + 32;
    }
    Ok(clusters)
}

/// Waits until checkpoints tell of so many clusters.
pub(crate) async fn told_of(hub: &Hub, clusters: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while told(&journal(hub))? < clusters {
        ensure!(Instant::now() < deadline, "no checkpoint was written");
        sleep(OFTEN).await;
    }
    Ok(())
}

/// A hub that is killed after some checkpoints.
async fn left_behind(disk: &[u8]) -> Result<Hub> {
    let hub = Hub::with_checkpoints(OFTEN).await?;
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    send(disk, &target, 2..6).await?;
    told_of(&hub, 4).await?;
    send(disk, &target, 6..8).await?;
    told_of(&hub, 6).await?;
    killed(&hub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_goes_on_from_its_journal_after_the_hub_was_killed() -> Result<()> {
    let disk = pattern(SIZE, 1);
    let hub = left_behind(&disk).await?;
    let target = hub.storage.prepare_image(&again(&hub)?).await?;
    assert_eq!(target.kept_bytes, Some(6 * 65_536));
    assert!(target.parent.is_some(), "it is compared, never believed");
    let mut now = disk.clone();
    now[5 * 65_536..6 * 65_536].copy_from_slice(&pattern(SIZE, 3)[..65_536]);
    // Killed once more, in the middle of the second attempt: its journal goes on, too.
    send(&now, &target, 8..10).await?;
    told_of(&hub, 8).await?;
    let last = killed(&hub).await?;
    let target = last.storage.prepare_image(&again(&last)?).await?;
    assert_eq!(target.kept_bytes, Some(8 * 65_536));
    complete(&last, target, &now).await
}

/// A disk whose clusters 2 to 5 do not shrink, while all others do.
fn half_noise() -> Vec<u8> {
    let mut disk = pattern(SIZE, 1);
    blake3::Hasher::new().finalize_xof().fill(&mut disk[2 * 65_536..6 * 65_536]);
    disk
}

/// Only plain clusters are told by the journal; the setting may change in between, since no header is written yet.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_compressed_full_the_plain_clusters_are_kept_and_the_others_come_again() -> Result<()>
{
    let disk = half_noise();
    let zstd = Compression::Zstd(ZstdLevel::default());
    for (before, after, compressed) in
        [(zstd, zstd, 13), (zstd, Compression::None, 0), (Compression::None, zstd, 7)]
    {
        let mut hub = Hub::with_checkpoints(OFTEN).await?;
        hub.repository.settings.compression = before;
        let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
        send(&disk, &target, 6..12).await?;
        send(&disk, &target, 2..6).await?;
        let kept = if before == zstd { 4 } else { 10 };
        told_of(&hub, kept).await?;
        let mut next = killed(&hub).await?;
        assert_eq!(told(&journal(&next))?, kept, "from {before:?}");
        next.repository.settings.compression = after;
        let target = next.storage.prepare_image(&again(&next)?).await?;
        assert_eq!(target.kept_bytes, Some(kept * 65_536));
        complete(&next, target, &disk).await?;
        if qemu_img()? {
            let image = next.file(&image_path(1)).display().to_string();
            let report = run("qemu-img", &["check", "-f", "qcow2", "--output=json", &image])?;
            let expected = format!("\"compressed-clusters\": {compressed}");
            let plain = compressed == 0 && !report.contains("compressed-clusters");
            assert!(plain || report.contains(&expected), "{before:?}, then {after:?}: {report}");
        }
    }
    Ok(())
}

/// Whatever is lost or garbled of what was left: the result is the disk, or the image began anew and is the disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_hub_left_may_be_garbled_anywhere() -> Result<()> {
    let disk = pattern(SIZE, 1);
    let left = left_behind(&disk).await?;
    let image = |hub: &Hub| hub.file(&format!("{}.partial", image_path(1)));
    let manifest = |hub: &Hub| hub.file(&image_path(1)).with_extension("manifest.partial");
    let flip = |path: &Path, at: usize| -> Result<()> {
        let mut bytes = fs::read(path)?;
        *bytes.get_mut(at).context("the file is long enough")? ^= 0x10;
        Ok(fs::write(path, bytes)?)
    };
    let cut = |path: &Path, len: u64| -> Result<()> {
        Ok(fs::OpenOptions::new().write(true).open(path)?.set_len(len)?)
    };
    for (what, kept) in [
        ("data", true),
        ("journal-head", false),
        ("journal-middle", true),
        ("journal-tail", true),
        ("journal-gone", false),
        ("image-short", false),
        ("image-gone", false),
        ("header", false),
        ("manifest", true),
        ("manifest-gone", true),
    ] {
        let hub = killed(&left).await?;
        let tail = fs::metadata(journal(&hub))?.len() - 1;
        match what {
            "data" => flip(&image(&hub), 2 * 65_536 + 77)?,
            "journal-head" => flip(&journal(&hub), 20)?,
            "journal-middle" => flip(&journal(&hub), usize::try_from(tail)? - 40)?,
            "journal-tail" => cut(&journal(&hub), tail)?,
            "journal-gone" => fs::remove_file(journal(&hub))?,
            "image-short" => cut(&image(&hub), 3 * 65_536)?,
            "image-gone" => fs::remove_file(image(&hub))?,
            "header" => flip(&image(&hub), 0)?,
            "manifest" => flip(&manifest(&hub), 16_384 + 3 * 32)?,
            _ => fs::remove_file(manifest(&hub))?,
        }
        let target = hub.storage.prepare_image(&again(&hub)?).await.context(what)?;
        ensure!(target.kept_bytes.is_some() == kept, "{what}: {:?}", target.kept_bytes);
        complete(&hub, target, &disk).await.context(what)?;
    }
    Ok(())
}

/// A hub may be stopped while it reads back what the one before had left, which takes long for a large disk.
#[tokio::test]
async fn a_hub_that_is_stopped_while_it_reads_back_leaves_what_there_was() -> Result<()> {
    let disk = pattern(SIZE, 1);
    let left = left_behind(&disk).await?;
    for polls in 1.. {
        let hub = killed(&left).await?;
        let order = again(&hub)?;
        let mut preparing = Box::pin(hub.storage.prepare_image(&order));
        let mut done = false;
        for _ in 0..polls {
            done = poll_fn(|it| Poll::Ready(preparing.as_mut().poll(it).is_ready())).await;
            if done {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        drop(preparing);
        hub.storage.leave_image(&hub.repository, &image_path(1)).await?;
        // Nobody works on it any more: another attempt is not refused, and what is copied does not change meanwhile.
        let other = hub.storage.prepare_image(&order).await?;
        ensure!(other.kept_bytes == Some(6 * 65_536), "{:?} at {polls}", other.kept_bytes);
        hub.storage.leave_image(&hub.repository, &image_path(1)).await?;
        let next = killed(&hub).await?;
        let target = next.storage.prepare_image(&again(&next)?).await?;
        ensure!(target.kept_bytes == Some(6 * 65_536), "{:?} at {polls}", target.kept_bytes);
        if done {
            ensure!(polls > 10, "it was stopped at {polls} places only");
            return complete(&next, target, &disk).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_leaves_in_order_is_complete() -> Result<()> {
    let disk = pattern(SIZE, 1);
    // Its first checkpoint would come in an hour; leaving is one as well.
    let hub = Hub::start().await?;
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    send(&disk, &target, 2..7).await?;
    hub.storage.leave_image(&hub.repository, &image_path(1)).await?;
    assert!(dial(&target.address).await.is_err(), "its export is gone");
    let next = killed(&hub).await?;
    let target = next.storage.prepare_image(&again(&next)?).await?;
    assert_eq!(target.kept_bytes, Some(5 * 65_536));
    complete(&next, target, &disk).await?;

    // Nothing was written, so there is nothing to go on with.
    let hub = Hub::start().await?;
    hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    hub.storage.leave_image(&hub.repository, &image_path(1)).await?;
    ensure!(fs::read_dir(hub.file(&format!("{VM}/disk-{DISK}")))?.count() == 0, "files are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoning_removes_the_journal_too() -> Result<()> {
    let hub = left_behind(&pattern(SIZE, 1)).await?;
    hub.storage.abandon_image(&hub.repository, &image_path(1)).await?;
    let left = fs::read_dir(hub.file(&format!("{VM}/disk-{DISK}")))?.count();
    ensure!(left == 0, "{left} files are left");
    Ok(())
}
