//! Copies that succeed, by each method, with the proof checked at the other end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use hub_block::{BlockDevice, MemoryDevice};
use hub_data_mover::ProvingDevice;
use hub_vma_api::{CopyDisk, CopyMethod, CopyReport, CopyState};

use super::jobs;
use crate::doubles::{BLOCK, Hub, MemorySource, copying, ended, full_disk, memory, table_of};
use crate::fixture::content;
use crate::source::Changed;

const STEP: usize = BLOCK as usize;

/// Copies a disk onto what its parent holds, and answers the report, the image and the root at the hub's end.
async fn incremental(
    source: MemorySource,
    parent: Vec<u8>,
    method: CopyMethod,
    capacity: usize,
) -> Result<(CopyReport, Vec<u8>, String)> {
    let mut hub = Hub::start().await?;
    let manifest = hub.parent(&parent).await?;
    let mut image = parent.clone();
    image.resize(capacity, 0);
    let image = memory(image);
    let table = Arc::new(table_of(&image.snapshot()).await?);
    let proving = Arc::new(ProvingDevice::new(image.clone(), table));
    let target = hub.offer("disk", proving.clone())?;
    let disk =
        CopyDisk { method, parent: Some(manifest), ..full_disk("disk-2000", capacity, target) };
    let jobs = jobs(source);
    jobs.start(copying("job", vec![disk])).await?;
    let report = ended(&jobs, "job").await?;
    let root = proving.settle().await?.to_string();
    Ok((report, image.snapshot(), root))
}

fn disk_source(bytes: Vec<u8>) -> MemorySource {
    MemorySource::with(vec![("disk-2000", memory(bytes) as Arc<dyn BlockDevice>)])
}

#[tokio::test]
async fn all_disks_of_a_vm_are_copied_from_one_opening_trap_d6() {
    let mut hub = Hub::start().await.unwrap();
    let (first, second) = (content(1), content(2)[..1 << 20].to_vec());
    let source = MemorySource::with(vec![
        ("disk-2000", memory(first.clone()) as Arc<dyn BlockDevice>),
        ("disk-2001", memory(second.clone())),
    ]);
    let (opened, open) = (source.opened.clone(), source.open.clone());
    let images: [Arc<MemoryDevice>; 2] =
        [memory(vec![0; first.len()]), memory(vec![0; second.len()])];
    let disks = vec![
        full_disk("disk-2000", first.len(), hub.offer("a", images[0].clone()).unwrap()),
        full_disk("disk-2001", second.len(), hub.offer("b", images[1].clone()).unwrap()),
    ];
    let jobs = jobs(source);
    let accepted = jobs.start(copying("job", disks)).await.unwrap();
    assert!(!accepted.state.is_terminal(), "trap D26");
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!((report.state, &report.error), (CopyState::Succeeded, &None));
    for (disk, expected) in report.disks.iter().zip([&first, &second]) {
        assert_eq!((disk.state, disk.method.as_str()), (CopyState::Succeeded, "full"));
        assert_eq!(disk.bytes_total, expected.len() as u64);
        assert_eq!(disk.bytes_done, disk.bytes_total);
        assert!(disk.bytes_read < disk.bytes_total, "holes are not read");
        assert!(disk.bytes_sent > 0 && disk.bytes_sent <= disk.bytes_read, "trap D23");
        let root = table_of(expected).await.unwrap().root().unwrap().to_string();
        assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
        assert_eq!(disk.change_id.as_deref(), Some("mark-2"), "trap D10");
    }
    assert!(images[0].snapshot() == first && images[1].snapshot() == second, "trap D8");
    assert_eq!((opened.load(Ordering::SeqCst), open.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn by_digest_only_what_differs_is_sent() {
    let parent = content(5);
    let mut now = parent.clone();
    now[STEP * 3 + 17] ^= 1;
    now[STEP * 16..STEP * 17].fill(0);
    let (report, image, root) =
        incremental(disk_source(now.clone()), parent, CopyMethod::ByDigest, now.len())
            .await
            .unwrap();
    let disk = &report.disks[0];
    assert_eq!((disk.state, disk.method.as_str()), (CopyState::Succeeded, "by_digest"));
    assert_eq!(disk.bytes_sent, u64::from(BLOCK));
    assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
    assert!(image == now);
}

#[tokio::test]
async fn known_areas_are_all_that_is_read() {
    let parent = content(5);
    let mut now = parent.clone();
    now[STEP * 2..STEP * 3].fill(0xEE);
    let start = (STEP * 2) as u64;
    let mut source = disk_source(now.clone());
    source.changed = Some(Changed::Areas(vec![start..start + 100, start + 4096..start + 9000]));
    let method = CopyMethod::ChangedSince { change_id: "mark-1".to_owned() };
    let (report, image, root) = incremental(source, parent, method, now.len()).await.unwrap();
    let disk = &report.disks[0];
    assert_eq!((disk.method.as_str(), &disk.method_reason), ("changed_since", &None));
    assert_eq!((disk.bytes_total, disk.bytes_read), (u64::from(BLOCK), u64::from(BLOCK)));
    assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
    assert!(image == now);
}

#[tokio::test]
async fn nothing_changed_is_a_success_trap_d46() {
    let now = content(5);
    let mut source = disk_source(now.clone());
    source.changed = Some(Changed::Areas(Vec::new()));
    let method = CopyMethod::ChangedSince { change_id: "mark-1".to_owned() };
    let (report, image, root) = incremental(source, now.clone(), method, now.len()).await.unwrap();
    let disk = &report.disks[0];
    assert_eq!((report.state, disk.bytes_read), (CopyState::Succeeded, 0));
    assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
    assert!(image == now);
}

#[tokio::test]
async fn what_is_doubtful_is_compared_by_digest_and_says_why() {
    let parent = content(5);
    let mut now = parent.clone();
    now[0] ^= 0xFF;
    let method = CopyMethod::ChangedSince { change_id: "mark-1".to_owned() };
    let (report, image, _) =
        incremental(disk_source(now.clone()), parent, method, now.len()).await.unwrap();
    let disk = &report.disks[0];
    assert_eq!(disk.method, "by_digest");
    assert_eq!(disk.method_reason.as_deref(), Some("nobody knows"));
    assert!(image == now);
}

#[tokio::test]
async fn a_disk_that_grew_is_compared_as_a_whole_trap_c22() {
    let parent = content(5);
    let mut now = parent.clone();
    now.extend(vec![0x44; STEP + 512]);
    let mut source = disk_source(now.clone());
    source.changed = Some(Changed::Areas(Vec::new()));
    let method = CopyMethod::ChangedSince { change_id: "mark-1".to_owned() };
    let (report, image, root) = incremental(source, parent, method, now.len()).await.unwrap();
    let disk = &report.disks[0];
    assert_eq!((disk.state, disk.method.as_str()), (CopyState::Succeeded, "by_digest"));
    assert!(disk.method_reason.as_deref().unwrap().contains("grown"));
    assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
    assert!(image == now);
}
