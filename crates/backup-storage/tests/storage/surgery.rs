//! Chain surgery: files that are missing, swapped, renamed or put in a circle are refused, with what to do.

use anyhow::{Context, Result, ensure};
use hub_domain::restore::RestoreFormat;
use hub_ports::{BackupStorage, NoProgress, RestoreOutput, StorageError};
use tokio_util::sync::CancellationToken;

use super::fixture::{Hub, SIZE, image_path, pattern, point_id};

/// Three points of one disk, each on the one before and with a block of its own.
async fn chain() -> Result<Hub> {
    let hub = Hub::start().await?;
    let mut disk = pattern(SIZE, 1);
    for number in 1..=3 {
        disk[usize::try_from(number)? * 65_536..][..512].fill(u8::try_from(number)?);
        hub.back_up(number, &disk, (number > 1).then(|| number - 1)).await?;
    }
    Ok(hub)
}

fn swap(hub: &Hub, (one, other): (u128, u128), extension: &str) -> Result<()> {
    let file = |number| hub.file(&image_path(number)).with_extension(extension);
    let aside = hub.file("aside");
    std::fs::rename(file(one), &aside)?;
    std::fs::rename(file(other), file(one))?;
    Ok(std::fs::rename(&aside, file(other))?)
}

/// What verification says about a point; it may be found by its blocks, too.
async fn damage(hub: &Hub, number: u128) -> Result<(String, u64)> {
    let stop = CancellationToken::new();
    let verdict = hub.storage.verify_point(&hub.location(number), &NoProgress, &stop).await?;
    Ok((verdict.damage.unwrap_or_default(), verdict.bad_blocks))
}

/// Neither exported nor restored, and nothing is left of the attempt.
async fn refused(hub: &Hub, number: u128) -> Result<String> {
    let location = hub.location(number);
    let exported = hub.storage.export_point(&location).await;
    let error = exported.err().context("it was exported")?;
    restore_is_refused(hub, number).await?;
    Ok(error.to_string())
}

async fn restore_is_refused(hub: &Hub, number: u128) -> Result<()> {
    let output = RestoreOutput { format: RestoreFormat::Raw, file_name: "back.raw".to_owned() };
    let (location, stop) = (hub.location(number), CancellationToken::new());
    let restored = hub.storage.restore_point(&location, &output, &NoProgress, &stop).await;
    ensure!(restored.is_err(), "it was restored");
    let dir = hub.folder.path().join("restores");
    ensure!(!dir.exists() || dir.read_dir()?.next().is_none(), "the restore left something");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_u41_a_missing_or_renamed_parent_is_named_with_the_image_that_needs_it() -> Result<()>
{
    let hub = chain().await?;
    let (parent, child) = (point_id(1).to_string(), point_id(2).to_string());
    let path = hub.file(&image_path(1));
    std::fs::rename(&path, path.with_extension("old"))?;
    for number in [2, 3] {
        let told = refused(&hub, number).await?;
        for part in [&parent, &child, "missing", "put that file back", "does not need it"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(damage(&hub, number).await?.0.contains(&parent));
    }
    let told = refused(&hub, 1).await?;
    assert!(told.contains(&parent) && told.contains("put it back"), "{told}");
    let order = hub.order(4, SIZE, Some(3))?;
    let prepared = hub.storage.prepare_image(&order).await?;
    let reason = prepared.no_parent_reason.unwrap_or_default();
    assert!(reason.contains(&parent) && reason.contains("missing"), "{reason}");
    std::fs::rename(path.with_extension("old"), &path)?;
    assert_eq!(damage(&hub, 3).await?, (String::new(), 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_u41_images_that_were_swapped_close_a_circle_that_is_named() -> Result<()> {
    let hub = chain().await?;
    swap(&hub, (1, 2), "qcow2")?;
    let told = refused(&hub, 1).await?;
    for part in [&point_id(1).to_string(), "replaced by another", "put it back"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(damage(&hub, 1).await?.0.contains("replaced by another"));
    // The full in the overlay's place opens, and holds other bytes than the two points had.
    for number in [2, 3] {
        assert!(damage(&hub, number).await?.1 > 0);
        restore_is_refused(&hub, number).await?;
    }
    swap(&hub, (1, 2), "qcow2")?;
    assert_eq!(damage(&hub, 3).await?, (String::new(), 0));
    Ok(())
}

/// Both are sound images of the right size; only their content and their frame tell.
#[tokio::test(flavor = "multi_thread")]
async fn p4_images_of_two_disks_that_were_swapped_are_found() -> Result<()> {
    let hub = Hub::start().await?;
    hub.back_up(1, &pattern(SIZE, 1), None).await?;
    hub.back_up(2, &pattern(SIZE, 2), None).await?;
    swap(&hub, (1, 2), "qcow2")?;
    for number in [1, 2] {
        let location = hub.location(number);
        assert_eq!(damage(&hub, number).await?.1, 4);
        let output = RestoreOutput { format: RestoreFormat::Raw, file_name: "x.raw".to_owned() };
        let stop = CancellationToken::new();
        let restored = hub.storage.restore_point(&location, &output, &NoProgress, &stop).await;
        assert!(matches!(restored, Err(StorageError::Damaged { offset: 0, .. })), "{restored:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_were_swapped_are_named() -> Result<()> {
    let hub = chain().await?;
    swap(&hub, (2, 3), "manifest")?;
    for number in [2, 3] {
        let told = refused(&hub, number).await?;
        let part = "the manifest of another point";
        assert!(told.contains(part) && told.contains(&point_id(number).to_string()), "{told}");
        assert!(damage(&hub, number).await?.0.contains(part));
    }
    assert_eq!(damage(&hub, 1).await?, (String::new(), 0));
    Ok(())
}

/// A parent's place is taken by a link that leads out of the repository, or by something that is no file.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_leads_elsewhere_is_not_opened() -> Result<()> {
    let hub = chain().await?;
    let path = hub.file(&image_path(1));
    let outside = hub.folder.path().join("outside.qcow2");
    std::fs::rename(&path, &outside)?;
    std::os::unix::fs::symlink(&outside, &path)?;
    let told = refused(&hub, 2).await?;
    assert!(told.contains("may not be opened") && told.contains("lies outside"), "{told}");
    std::fs::remove_file(&path)?;
    std::fs::create_dir(&path)?;
    let told = refused(&hub, 2).await?;
    assert!(told.contains("is not a regular file"), "{told}");
    std::fs::remove_dir(&path)?;
    std::fs::rename(&outside, &path)?;
    assert_eq!(damage(&hub, 3).await?, (String::new(), 0));
    Ok(())
}
