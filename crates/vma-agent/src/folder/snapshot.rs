//! Disks of a folder held open at one instant.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hub_block::BlockDevice;

use super::change_id::{self, Since};
use super::plan::PlannedDisk;
use super::{blocking, walk};
use crate::source::{Changed, OpenDisk, Snapshot, SourceError};
use crate::vmdk::{Chain, VmdkDisk};

/// The most areas that are listed; a disk with more is read as a whole, which costs less than the list.
const MAX_AREAS: usize = 1 << 20;

/// How much of a disk is asked about at a time, so that a fragmented one does not cost memory.
const WINDOW: u64 = 4 << 30;

/// All asked disks of one VM at one instant.
pub(super) struct FolderSnapshot {
    planned: Vec<PlannedDisk>,
    disks: Vec<OpenDisk>,
}

impl FolderSnapshot {
    /// Takes the opened disks, then looks again: what changed meanwhile was not one instant.
    pub(super) async fn open(planned: Vec<PlannedDisk>) -> Result<Self, SourceError> {
        let disk = |it: &PlannedDisk| OpenDisk {
            key: it.key.clone(),
            change_id: change_id::mark(&it.chain),
            no_mark: None,
            read_by: None,
        };
        let disks = planned.iter().map(disk).collect();
        let opened = Self { planned, disks };
        for disk in 0..opened.planned.len() {
            opened.check_unchanged(disk).await?;
        }
        Ok(opened)
    }
}

/// The byte ranges that lie in the `layers` newest layers.
async fn areas(device: &VmdkDisk, layers: u32) -> Result<Vec<Range<u64>>, String> {
    let mut areas: Vec<Range<u64>> = Vec::new();
    let end = device.size();
    let mut at = 0;
    while at < end {
        let stop = end.min(at + WINDOW);
        let found = device.areas(at..stop, layers).await;
        for area in found.map_err(|it| format!("the changed areas cannot be read: {it}"))? {
            match areas.last_mut() {
                Some(last) if last.end == area.start => last.end = area.end,
                _ => areas.push(area),
            }
        }
        if areas.len() > MAX_AREAS {
            return Err("the changes are too scattered to list".to_owned());
        }
        at = stop;
    }
    Ok(areas)
}

#[async_trait]
impl Snapshot for FolderSnapshot {
    fn disks(&self) -> &[OpenDisk] {
        &self.disks
    }

    async fn reader(&self, disk: usize) -> Result<Arc<dyn BlockDevice>, SourceError> {
        let planned = self.planned.get(disk);
        let planned =
            planned.ok_or_else(|| SourceError::Internal("there is no such disk".to_owned()))?;
        Ok(Arc::new(planned.device.clone()))
    }

    async fn changed_since(&self, disk: usize, change_id: &str) -> Changed {
        let Some(planned) = self.planned.get(disk) else {
            return Changed::Unknown("there is no such disk".to_owned());
        };
        match change_id::since(&planned.chain, change_id) {
            Since::Unknown(why) => Changed::Unknown(why.to_owned()),
            Since::Below(0) => Changed::Areas(Vec::new()),
            Since::Below(layers) => {
                let areas = areas(&planned.device, layers).await;
                areas.map_or_else(Changed::Unknown, Changed::Areas)
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
        Ok(())
    }
}

fn is_unchanged(planned: &PlannedDisk) -> bool {
    let name = planned.chain.top().map(|it| it.name.as_str()).unwrap_or_default();
    let now = Chain::read(&planned.directory, name);
    let same = now.is_ok_and(|it| change_id::mark(&it) == change_id::mark(&planned.chain));
    same && planned.quiet.iter().all(|at| matches!(walk::is_locked(at), Ok(false)))
}
