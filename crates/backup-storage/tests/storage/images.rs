//! Images: what is durable when, and what is left when something breaks.

use anyhow::Result;
use bytes::Bytes;
use hub_block::BlockDevice;
use hub_ports::{BackupStorage, StorageError};

use super::fixture::{
    DISK, Hub, SIZE, VM, dial, image_path, judge, pattern, polled, push, qemu_img, run, seal,
};

/// Everything below the repository but directories, by name.
fn files(hub: &Hub) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let dir = hub.file(&format!("{VM}/disk-{DISK}"));
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_chain_of_points_is_read_by_stock_tools() -> Result<()> {
    let hub = Hub::start().await?;
    let mut disk = pattern(SIZE, 1);
    disk[65_536..131_072].fill(0);
    let mut images = Vec::new();
    for number in 1..=12 {
        let parent = (number > 1).then(|| number - 1);
        hub.back_up(number, &disk, parent).await?;
        images.push((number, disk.clone()));
        let at = (usize::try_from(number)? * 20_480) % SIZE;
        disk[at..(at + 9_000).min(SIZE)].fill(u8::try_from(number)?);
        if number == 5 {
            disk[..65_536].fill(0);
        }
    }
    for (number, disk) in images {
        judge(&hub.file(&image_path(number)), "qcow2", &disk)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_nothing_has_a_name_before_it_is_sealed() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let root = push(&disk, &target).await?;
    assert!(files(&hub)?.iter().all(|name| name.ends_with(".partial")), "{:?}", files(&hub)?);
    let sealed = hub.storage.seal_image(&seal(1, target, root, None)?).await?;
    assert!(files(&hub)?.iter().all(|name| !name.ends_with(".partial")), "{:?}", files(&hub)?);
    assert!(sealed.stored_bytes > SIZE as u64 / 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_ends_disagree_is_not_kept() -> Result<()> {
    let hub = Hub::start().await?;
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let root = push(&pattern(SIZE, 1), &target).await?;
    let meddler = hub.storage.prepare_image(&hub.order(2, SIZE, None)?).await?;
    let other = push(&pattern(SIZE, 2), &meddler).await?;
    assert_ne!(root, other);
    let refused = hub.storage.seal_image(&seal(1, target, other, None)?).await;
    assert!(matches!(refused, Err(StorageError::ProofMismatch { .. })), "{refused:?}");
    hub.storage.abandon_image(&hub.repository, &image_path(1)).await?;
    hub.storage.abandon_image(&hub.repository, &image_path(2)).await?;
    hub.storage.abandon_image(&hub.repository, &image_path(2)).await?;
    assert!(files(&hub)?.is_empty(), "{:?}", files(&hub)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_d19_an_abandoned_target_is_gone_from_the_network() -> Result<()> {
    let hub = Hub::start().await?;
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let client = dial(&target.address).await?;
    hub.storage.abandon_image(&hub.repository, &target.path).await?;
    assert!(client.write_at(0, Bytes::from(vec![1; 512])).await.is_err());
    assert!(dial(&target.address).await.is_err());
    let sealed = hub.storage.seal_image(&seal(1, target, String::new(), None)?).await;
    assert!(matches!(sealed, Err(StorageError::UnknownTarget)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_c22_a_grown_disk_gets_a_larger_overlay() -> Result<()> {
    let hub = Hub::start().await?;
    let mut disk = pattern(SIZE, 1);
    hub.back_up(1, &disk, None).await?;
    disk.extend(pattern(100 * 512, 3));
    disk[10] ^= 1;
    hub.back_up(2, &disk, Some(1)).await?;
    let image = hub.file(&image_path(2));
    judge(&image, "qcow2", &disk)?;
    if qemu_img()? {
        let info = run("qemu-img", &["info", "--output=json", &image.display().to_string()])?;
        assert!(info.contains(&format!("\"virtual-size\": {}", disk.len())), "{info}");
        assert!(info.contains("\"backing-filename\": \"00000000-"), "{info}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_d14_an_existing_point_is_never_overwritten() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    hub.back_up(1, &disk, None).await?;
    let again = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await;
    assert!(matches!(again, Err(StorageError::Exists { .. })));
    judge(&hub.file(&image_path(1)), "qcow2", &disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_targets_for_one_image_are_refused_and_the_first_lives() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    let first = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    assert!(hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await.is_err());
    let root = push(&disk, &first).await?;
    hub.storage.seal_image(&seal(1, first, root, None)?).await?;
    judge(&hub.file(&image_path(1)), "qcow2", &disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_parent_is_not_stood_upon_and_the_reason_is_given() -> Result<()> {
    let hub = Hub::start().await?;
    hub.back_up(1, &pattern(SIZE, 1), None).await?;
    let manifest = hub.file(&image_path(1)).with_extension("manifest");
    let mut bytes = std::fs::read(&manifest)?;
    let end = bytes.len();
    bytes[end - 1] ^= 4;
    std::fs::write(&manifest, bytes)?;
    let target = hub.storage.prepare_image(&hub.order(2, SIZE, Some(1))?).await?;
    assert!(target.parent.is_none());
    assert!(
        target.no_parent_reason.as_deref().is_some_and(|why| why.contains("damaged")),
        "{target:?}"
    );
    hub.storage.abandon_image(&hub.repository, &target.path).await?;
    std::fs::remove_file(&manifest)?;
    let target = hub.storage.prepare_image(&hub.order(2, SIZE, Some(1))?).await?;
    assert!(target.no_parent_reason.is_some_and(|why| why.contains("missing")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_repository_is_said_to_be_so() -> Result<()> {
    let mut hub = Hub::start().await?;
    let probe = hub.storage.probe(&hub.repository).await?;
    assert!(probe.free_bytes > 0 && probe.free_bytes <= probe.total_bytes);
    hub.repository.path = hub.folder.path().join("gone").display().to_string();
    let refused = hub.storage.probe(&hub.repository).await;
    assert!(matches!(refused, Err(StorageError::Unusable { .. })), "{refused:?}");
    let refused = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await;
    assert!(matches!(refused, Err(StorageError::Unusable { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_removes_image_and_manifest_and_nothing_else() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    hub.back_up(1, &disk, None).await?;
    hub.back_up(2, &disk, Some(1)).await?;
    hub.storage.delete_image(&hub.repository, &image_path(2)).await?;
    hub.storage.delete_image(&hub.repository, &image_path(2)).await?;
    assert_eq!(files(&hub)?.len(), 2);
    assert!(hub.storage.delete_image(&hub.repository, "../outside.qcow2").await.is_err());
    judge(&hub.file(&image_path(1)), "qcow2", &disk)
}

/// Promise P9: a seal whose caller has gone goes on for a while, and may be about to give names.
#[tokio::test(flavor = "multi_thread")]
async fn p9_abandoning_ends_a_seal_that_was_dropped_anywhere() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    let mut number = 0;
    for _ in 0..20 {
        for polls in 1..40 {
            number += 1;
            let target = hub.storage.prepare_image(&hub.order(number, SIZE, None)?).await?;
            let root = push(&disk, &target).await?;
            let order = seal(number, target, root, None)?;
            let sealed = polled(polls, hub.storage.seal_image(&order)).await;
            hub.storage.abandon_image(&hub.repository, &image_path(number)).await?;
            assert!(files(&hub)?.is_empty(), "after {polls} polls: {:?}", files(&hub)?);
            if sealed {
                break;
            }
        }
    }
    Ok(())
}

/// Trap U37: a hub that lost its job to another one must not give its names to what the other one writes.
#[tokio::test(flavor = "multi_thread")]
async fn trap_u37_a_hub_that_lost_its_job_seals_nothing_of_its_successors() -> Result<()> {
    let (stale, mut hub) = (Hub::start().await?, Hub::start().await?);
    hub.repository = stale.repository.clone();
    let disk = pattern(SIZE, 1);
    let lost = stale.storage.prepare_image(&stale.order(1, SIZE, None)?).await?;
    let lost_root = push(&disk, &lost).await?;

    hub.storage.abandon_image(&hub.repository, &image_path(1)).await?;
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let refused = stale.storage.seal_image(&seal(1, lost, lost_root, None)?).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(files(&hub)?.iter().all(|name| name.ends_with(".partial")), "{:?}", files(&hub)?);

    let root = push(&disk, &target).await?;
    hub.storage.seal_image(&seal(1, target, root, None)?).await?;
    judge(&hub.file(&image_path(1)), "qcow2", &disk)
}

/// Promise P5: the reason for reading in full may quote whatever a source answered, and costs no finished copy.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_reason_of_any_length_does_not_keep_a_point_from_being_sealed() -> Result<()> {
    let hub = Hub::start().await?;
    // Large enough for as many spans as a seal ever has.
    let disk = pattern(4 << 20, 1);
    let target = hub.storage.prepare_image(&hub.order(1, disk.len(), None)?).await?;
    let root = push(&disk, &target).await?;
    let mut order = seal(1, target, root, None)?;
    // A control character takes six bytes of JSON, as many as any.
    let longest = "\u{1}".repeat(255);
    let identity = &mut order.identity;
    identity.method_reason = Some(format!("the source answered{}", "\u{1}".repeat(2_000)));
    for name in [&mut identity.vm_name, &mut identity.vmware_vm_id, &mut identity.vcenter_host] {
        name.clone_from(&longest);
    }
    hub.storage.seal_image(&order).await?;
    let manifest =
        hub_data_mover::Manifest::open(&hub.file(&image_path(1)).with_extension("manifest"))?;
    assert!(manifest.identity().method_reason.starts_with("the source answered"));
    assert!(manifest.identity().image_seal.as_ref().is_some_and(|seal| seal.spans.len() > 16));
    judge(&hub.file(&image_path(1)), "qcow2", &disk)
}
