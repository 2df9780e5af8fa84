//! Points that are read: exports that stock tools use, and verification that finds what is wrong.

use anyhow::Result;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError};
use hub_data_mover::{BlockSize, Digest, DigestTable};
use hub_ports::{BackupStorage, NoProgress, StorageError};
use tokio_util::sync::CancellationToken;

use super::fixture::{Hub, SIZE, dial, image_path, pattern, point_id, run};

async fn two_points(hub: &Hub) -> Result<(Vec<u8>, Vec<u8>)> {
    let full = pattern(SIZE, 1);
    let mut changed = full.clone();
    changed[70_000..71_000].fill(9);
    hub.back_up(1, &full, None).await?;
    hub.back_up(2, &changed, Some(1)).await?;
    Ok((full, changed))
}

/// Flips one bit in the middle of the first place where the file holds these bytes.
fn flip_where(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::read(path)?;
    let at = file
        .windows(bytes.len())
        .position(|window| window == bytes)
        .ok_or_else(|| anyhow::anyhow!("the bytes are not in {}", path.display()))?;
    file[at + bytes.len() / 2] ^= 0x10;
    Ok(std::fs::write(path, file)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_point_is_exported_with_its_own_bytes() -> Result<()> {
    let hub = Hub::start().await?;
    let (full, changed) = two_points(&hub).await?;
    for (number, disk) in [(1, full), (2, changed)] {
        let export = hub.storage.export_point(&hub.location(number)).await?;
        assert_eq!(export.capacity, SIZE as u64);
        let client = dial(&export.address).await?;
        assert!(client.read_only());
        let mut read = Vec::new();
        for at in (0..SIZE).step_by(65_536) {
            let len = u32::try_from((SIZE - at).min(65_536))?;
            read.extend_from_slice(&client.read_at(at as u64, len).await?);
        }
        assert!(read == disk, "point {number} reads as another disk");
        let refused = client.write_at(0, Bytes::from(vec![0; 512])).await;
        assert!(matches!(refused, Err(BlockError::ReadOnly)), "{refused:?}");
        hub.storage.close_export(&export.address.export).await?;
        hub.storage.close_export(&export.address.export).await?;
        assert!(dial(&export.address).await.is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digests_of_a_point_are_exported_without_its_image() -> Result<()> {
    let hub = Hub::start().await?;
    let (_, changed) = two_points(&hub).await?;
    std::fs::remove_file(hub.file(&image_path(2)))?;
    let offered = hub.storage.export_digests(&hub.location(2)).await?;
    assert_eq!(offered.capacity.bytes(), SIZE as u64);
    let table = DigestTable::temporary(SIZE as u64, BlockSize::for_capacity(SIZE as u64))?;
    let client = dial(&offered.address).await?;
    table.load(&client).await?;
    assert_eq!(table.root()?.to_string(), offered.root);
    assert_eq!(table.get(1)?, Digest::of(&changed[65_536..2 * 65_536]));
    hub.storage.close_export(&offered.address.export).await?;
    assert!(dial(&offered.address).await.is_err());
    let mut other = hub.location(2);
    other.point = point_id(1);
    assert!(hub.storage.export_digests(&other).await.is_err(), "the manifest of another point");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_nbdcopy_and_qemu_read_an_export() -> Result<()> {
    let hub = Hub::start().await?;
    let (_, changed) = two_points(&hub).await?;
    let export = hub.storage.export_point(&hub.location(2)).await?;
    let address = &export.address;
    let uri = format!("nbd://{}:{}/{}", address.host, address.port, address.export);
    let copied = hub.folder.path().join("copied.raw");
    let converted = hub.folder.path().join("converted.raw");
    if !super::fixture::qemu_img()? {
        return Ok(());
    }
    let (copied_arg, converted_arg) =
        (copied.display().to_string(), converted.display().to_string());
    let facts = run("nbdinfo", &["--json", &uri])?;
    assert!(facts.contains(&format!("\"export-size\": {SIZE}")), "{facts}");
    run("nbdcopy", &[&uri, &copied_arg])?;
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, &converted_arg])?;
    assert!(std::fs::read(copied)?[..SIZE] == changed[..]);
    assert!(std::fs::read(converted)?[..SIZE] == changed[..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_nothing_where_nothing_is_wrong() -> Result<()> {
    let hub = Hub::start().await?;
    two_points(&hub).await?;
    for number in [1, 2] {
        let stop = CancellationToken::new();
        let verdict = hub.storage.verify_point(&hub.location(number), &NoProgress, &stop).await?;
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.point, verdict.blocks_checked), (point_id(number), 4));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_one_flipped_bit_of_data_is_named_and_never_served() -> Result<()> {
    let hub = Hub::start().await?;
    let (full, _) = two_points(&hub).await?;
    flip_where(&hub.file(&image_path(1)), &full[131_072..131_072 + 512])?;
    let stop = CancellationToken::new();
    for number in [1, 2] {
        let verdict = hub.storage.verify_point(&hub.location(number), &NoProgress, &stop).await?;
        assert_eq!(verdict.bad_blocks, 1, "{verdict:?}");
        assert_eq!(verdict.mismatches[0].offset, 131_072);
    }
    let export = hub.storage.export_point(&hub.location(2)).await?;
    let client = dial(&export.address).await?;
    assert!(client.read_at(131_072, 512).await.is_err());
    assert_eq!(client.read_at(0, 512).await?[..], full[..512]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_flipped_bit_in_the_manifest_or_a_lost_file_is_named() -> Result<()> {
    let hub = Hub::start().await?;
    two_points(&hub).await?;
    let stop = CancellationToken::new();
    let manifest = hub.file(&image_path(2)).with_extension("manifest");
    let sound = std::fs::read(&manifest)?;
    for at in [9, 40, 100, sound.len() - 5] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&manifest, bytes)?;
        let verdict = hub.storage.verify_point(&hub.location(2), &NoProgress, &stop).await?;
        assert!(verdict.damage.is_some(), "bit at {at}: {verdict:?}");
        assert!(hub.storage.export_point(&hub.location(2)).await.is_err());
    }
    std::fs::write(&manifest, &sound)?;
    std::fs::rename(hub.file(&image_path(1)), hub.file("elsewhere"))?;
    let verdict = hub.storage.verify_point(&hub.location(2), &NoProgress, &stop).await?;
    let damage = verdict.damage.unwrap_or_default();
    assert!(damage.contains("missing") && damage.contains(&point_id(1).to_string()), "{damage}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_verification_says_so() -> Result<()> {
    let hub = Hub::start().await?;
    two_points(&hub).await?;
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = hub.storage.verify_point(&hub.location(2), &NoProgress, &stop).await;
    assert!(matches!(stopped, Err(StorageError::Cancelled)), "{stopped:?}");
    Ok(())
}
