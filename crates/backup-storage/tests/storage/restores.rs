//! Restores: a file has its name only when every byte is proven.

use anyhow::Result;
use hub_domain::restore::RestoreFormat;
use hub_ports::{BackupStorage, NoProgress, RestoreOutput, StorageError};
use tokio_util::sync::CancellationToken;

use super::fixture::{Hub, SIZE, image_path, judge, pattern};

fn output(format: RestoreFormat) -> RestoreOutput {
    RestoreOutput { format, file_name: format!("web 1, Ж.{}", format.word()) }
}

async fn names(hub: &Hub) -> Result<Vec<String>> {
    let dir = hub.folder.path().join("restores");
    let mut names = Vec::new();
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_restored_to_every_format() -> Result<()> {
    let hub = Hub::start().await?;
    let mut disk = pattern(SIZE, 1);
    disk[65_536..131_072].fill(0);
    hub.back_up(1, &disk, None).await?;
    disk[5] = 77;
    hub.back_up(2, &disk, Some(1)).await?;
    let stop = CancellationToken::new();
    for format in [RestoreFormat::Raw, RestoreFormat::Qcow2, RestoreFormat::Vmdk] {
        let order = output(format);
        let file = hub.storage.restore_point(&hub.location(2), &order, &NoProgress, &stop).await?;
        assert_eq!(file.bytes, SIZE as u64);
        judge(file.path.as_ref(), format.word(), &disk)?;
    }
    assert!(names(&hub).await?.iter().all(|name| !name.contains("partial")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_damaged_bytes_are_not_restored() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    hub.back_up(1, &disk, None).await?;
    let image = hub.file(&image_path(1));
    let mut bytes = std::fs::read(&image)?;
    let at = bytes.windows(512).position(|it| *it == disk[131_072..131_584]).unwrap_or_default();
    bytes[at] ^= 1;
    std::fs::write(&image, bytes)?;
    let order = output(RestoreFormat::Raw);
    let stop = CancellationToken::new();
    let refused = hub.storage.restore_point(&hub.location(1), &order, &NoProgress, &stop).await;
    assert!(matches!(refused, Err(StorageError::Damaged { offset: 131_072, .. })), "{refused:?}");
    assert!(names(&hub).await?.is_empty(), "{:?}", names(&hub).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_c13_a_restore_stays_in_its_directory_and_overwrites_nothing() -> Result<()> {
    let hub = Hub::start().await?;
    hub.back_up(1, &pattern(SIZE, 1), None).await?;
    let stop = CancellationToken::new();
    for name in ["../escape.raw", "/etc/escape.raw", "a/b.raw"] {
        let order = RestoreOutput { format: RestoreFormat::Raw, file_name: name.to_owned() };
        let refused = hub.storage.restore_point(&hub.location(1), &order, &NoProgress, &stop).await;
        assert!(matches!(refused, Err(StorageError::InvalidName { .. })), "{name}: {refused:?}");
    }
    let order = output(RestoreFormat::Raw);
    let file = hub.storage.restore_point(&hub.location(1), &order, &NoProgress, &stop).await?;
    let again = hub.storage.restore_point(&hub.location(1), &order, &NoProgress, &stop).await;
    assert!(matches!(again, Err(StorageError::Exists { .. })), "{again:?}");
    hub.storage.abandon_restore(&order).await?;
    judge(file.path.as_ref(), "raw", &pattern(SIZE, 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_cancelled_restore_leaves_nothing() -> Result<()> {
    let hub = Hub::start().await?;
    hub.back_up(1, &pattern(SIZE, 1), None).await?;
    let stop = CancellationToken::new();
    stop.cancel();
    let order = output(RestoreFormat::Vmdk);
    let stopped = hub.storage.restore_point(&hub.location(1), &order, &NoProgress, &stop).await;
    assert!(matches!(stopped, Err(StorageError::Cancelled)), "{stopped:?}");
    assert!(names(&hub).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_is_swept() -> Result<()> {
    let hub = Hub::start().await?;
    let dir = hub.folder.path().join("restores");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("web 1, Ж.raw.partial"), b"half")?;
    hub.storage.abandon_restore(&output(RestoreFormat::Raw)).await?;
    assert!(names(&hub).await?.is_empty());
    Ok(())
}

/// Trap U25: `web.0` and `web.1` are two files, but both would keep their bytes in `web-flat.vmdk`.
#[tokio::test(flavor = "multi_thread")]
async fn trap_u25_two_restores_never_share_the_file_that_holds_the_bytes() -> Result<()> {
    let hub = Hub::start().await?;
    let disk = pattern(SIZE, 1);
    hub.back_up(1, &disk, None).await?;
    let stop = CancellationToken::new();
    let order = |number: u8| RestoreOutput {
        format: RestoreFormat::Vmdk,
        file_name: format!("web.{number}"),
    };
    let (location, first_order) = (hub.location(1), order(0));
    let first = hub.storage.restore_point(&location, &first_order, &NoProgress, &stop);
    let mut first = std::pin::pin!(first);
    let partial = hub.folder.path().join("restores/web-flat.vmdk.partial");
    let begun = async {
        while !partial.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = &mut first => anyhow::bail!("it was done before it was seen: {done:?}"),
        () = begun => (),
    }
    let second = hub.storage.restore_point(&location, &order(1), &NoProgress, &stop).await;
    assert!(matches!(second, Err(StorageError::Exists { .. })), "{second:?}");
    hub.storage.abandon_restore(&order(1)).await?;
    assert!(partial.exists(), "the second restore removed what the first one writes");
    let file = first.await?;
    judge(file.path.as_ref(), "vmdk", &disk)
}

/// Promise P2: killed between the two renames of a VMDK, a restore leaves bytes that no descriptor names.
#[tokio::test(flavor = "multi_thread")]
async fn p2_a_vmdk_whose_descriptor_got_no_name_is_swept() -> Result<()> {
    let hub = Hub::start().await?;
    let dir = hub.folder.path().join("restores");
    std::fs::create_dir(&dir)?;
    let order = RestoreOutput { format: RestoreFormat::Vmdk, file_name: "web.vmdk".to_owned() };
    std::fs::write(dir.join("web-flat.vmdk"), b"whole")?;
    hub.storage.abandon_restore(&order).await?;
    assert_eq!(names(&hub).await?, ["web-flat.vmdk"], "it may be somebody else's");
    std::fs::write(dir.join("web.vmdk.partial"), b"descriptor")?;
    hub.storage.abandon_restore(&order).await?;
    assert!(names(&hub).await?.is_empty(), "{:?}", names(&hub).await?);
    std::fs::write(dir.join("web-flat.vmdk"), b"whole")?;
    std::fs::write(dir.join("web.vmdk"), b"descriptor")?;
    hub.storage.abandon_restore(&order).await?;
    assert_eq!(names(&hub).await?.len(), 2);
    Ok(())
}
