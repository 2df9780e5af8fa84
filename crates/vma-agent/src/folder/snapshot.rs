//! Disks of a folder held open, each by a reader process of its own.

use std::ops::Range;

use async_trait::async_trait;

use super::change_id::{self, Since};
use super::plan::PlannedDisk;
use super::{blocking, walk};
use crate::qemu::{QemuDisk, QemuOptions};
use crate::source::{Changed, OpenDisk, Snapshot, SourceError};
use crate::vmdk::Chain;

/// The most areas that are listed; a disk with more is read as a whole, which costs less than the list.
const MAX_AREAS: usize = 1 << 20;

/// How much of a disk is asked about at a time, so that a fragmented one does not cost memory.
const WINDOW: u64 = 4 << 30;

/// All asked disks of one VM at one instant.
pub(super) struct FolderSnapshot {
    planned: Vec<PlannedDisk>,
    readers: Vec<QemuDisk>,
    disks: Vec<OpenDisk>,
}

impl FolderSnapshot {
    /// Starts a reader per disk, then looks again: what changed meanwhile was not one instant.
    pub(super) async fn open(
        options: &QemuOptions,
        planned: Vec<PlannedDisk>,
    ) -> Result<Self, SourceError> {
        let mut readers = Vec::with_capacity(planned.len());
        let mut disks = Vec::with_capacity(planned.len());
        for disk in &planned {
            let reader = QemuDisk::open(options, &disk.key, &disk.chain).await?;
            let (expected, found) = (disk.chain.capacity(), reader.device().size());
            if found != expected {
                let key = disk.key.clone();
                return Err(SourceError::CapacityMismatch { key, expected, found });
            }
            disks.push(OpenDisk {
                key: disk.key.clone(),
                device: reader.device(),
                change_id: change_id::mark(&disk.chain),
            });
            readers.push(reader);
        }
        let opened = Self { planned, readers, disks };
        for disk in 0..opened.planned.len() {
            opened.check_unchanged(disk).await?;
        }
        Ok(opened)
    }

    /// The byte ranges that lie in the `layers` newest layers.
    async fn areas(&self, disk: usize, layers: u32) -> Result<Vec<Range<u64>>, String> {
        let reader = self.readers.get(disk).ok_or("there is no such disk")?;
        let mut areas: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        let end = reader.device().size();
        while at < end {
            let runs = reader.layers(at, (end - at).min(WINDOW)).await?;
            let before = at;
            for run in runs {
                let stop = run.offset.saturating_add(run.len).min(end);
                if run.offset != at || stop <= at {
                    return Err("the reader's answer has gaps".to_owned());
                }
                at = stop;
                if !(1..=layers).contains(&run.depth) {
                    continue;
                }
                match areas.last_mut() {
                    Some(last) if last.end == run.offset => last.end = stop,
                    _ => areas.push(run.offset..stop),
                }
            }
            if at == before {
                return Err("the reader says nothing about a part of the disk".to_owned());
            }
            if areas.len() > MAX_AREAS {
                return Err("the changes are too scattered to list".to_owned());
            }
        }
        Ok(areas)
    }
}

#[async_trait]
impl Snapshot for FolderSnapshot {
    fn disks(&self) -> &[OpenDisk] {
        &self.disks
    }

    async fn changed_since(&self, disk: usize, change_id: &str) -> Changed {
        let Some(planned) = self.planned.get(disk) else {
            return Changed::Unknown("there is no such disk".to_owned());
        };
        match change_id::since(&planned.chain, change_id) {
            Since::Unknown(why) => Changed::Unknown(why.to_owned()),
            Since::Below(0) => Changed::Areas(Vec::new()),
            Since::Below(layers) => {
                self.areas(disk, layers).await.map_or_else(Changed::Unknown, Changed::Areas)
            }
        }
    }

    async fn check_unchanged(&self, disk: usize) -> Result<(), SourceError> {
        let Some(planned) = self.planned.get(disk).cloned() else {
            return Err(SourceError::Internal("there is no such disk".to_owned()));
        };
        let key = planned.key.clone();
        let same = blocking(move || is_unchanged(&planned)).await?;
        if same { Ok(()) } else { Err(SourceError::ChangedWhileReading { key }) }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let Self { readers, disks, .. } = *self;
        drop(disks);
        for reader in readers {
            reader.close().await;
        }
        Ok(())
    }
}

fn is_unchanged(planned: &PlannedDisk) -> bool {
    let name = planned.chain.top().map(|it| it.name.as_str()).unwrap_or_default();
    let now = Chain::read(&planned.directory, name);
    let same = now.is_ok_and(|it| change_id::mark(&it) == change_id::mark(&planned.chain));
    same && planned.quiet.iter().all(|at| matches!(walk::is_locked(at), Ok(false)))
}
