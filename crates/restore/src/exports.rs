//! Read-only exports of points: open for a limited time, known to this hub only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hub_domain::ids::{BackupJobId, ExportId};
use hub_domain::source::NbdAddress;
use hub_domain::time::Timestamp;
use hub_ports::StorageError;

use crate::engine::Restore;
use crate::error::{OpenExportError, PointError, PointExported};
use crate::point;

/// A point that is offered for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Ours.
    pub id: ExportId,
    /// The point.
    pub point: BackupJobId,
    /// Where it is offered.
    pub address: NbdAddress,
    /// Its size in bytes.
    pub capacity: u64,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The exports that are open; cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct ExportRegistry {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    open: BTreeMap<ExportId, Export>,
    /// Points that are being opened, each as often as it is.
    opening: Vec<BackupJobId>,
    /// Points that nobody may open now, each as often as somebody wants that.
    withheld: Vec<BackupJobId>,
}

/// Keeps a point from being exported until it is dropped.
#[derive(Debug)]
pub struct Withheld {
    exports: ExportRegistry,
    point: BackupJobId,
}

impl Drop for Withheld {
    fn drop(&mut self) {
        forget(&mut self.exports.known().withheld, self.point);
    }
}

/// A point on its way to an export.
pub(crate) struct Opening {
    exports: ExportRegistry,
    point: BackupJobId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        forget(&mut self.exports.known().opening, self.point);
    }
}

/// Takes one of a list.
fn forget(points: &mut Vec<BackupJobId>, point: BackupJobId) {
    if let Some(place) = points.iter().position(|it| *it == point) {
        points.swap_remove(place);
    }
}

impl ExportRegistry {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a point is on its way to an export, if nobody withholds it.
    pub(crate) fn begin(&self, point: BackupJobId) -> Result<Opening, PointError> {
        let mut known = self.known();
        if known.withheld.contains(&point) {
            return Err(PointError::NotCompleted { id: point, status: "deleting" });
        }
        known.opening.push(point);
        Ok(Opening { exports: self.clone(), point })
    }
}

impl Restore {
    /// Offers a point for reading until its time is over.
    pub async fn open_export(
        &self,
        id: BackupJobId,
        lifetime: Duration,
    ) -> Result<Export, OpenExportError> {
        let max_seconds = self.options.max_export_time.as_secs();
        if lifetime.is_zero() || lifetime > self.options.max_export_time {
            return Err(OpenExportError::Lifetime { max_seconds });
        }
        let _opening = self.exports.begin(id)?;
        let mut view = self.store.view().await?;
        let found = point::find(view.as_mut(), id).await?;
        let location = point::locate(view.as_mut(), &found).await?;
        drop(view);
        let exported = self.storage.export_point(&location).await?;
        let export = Export {
            id: ExportId::from_uuid(self.ids.new_id()),
            point: id,
            address: exported.address,
            capacity: exported.capacity,
            expires_at: self.clock.now() + lifetime,
        };
        self.exports.known().open.insert(export.id, export.clone());
        Ok(export)
    }

    /// Keeps a point from being exported, as its deletion has to; refused while an export of it is open.
    ///
    /// Until what is returned is dropped, nobody opens one: a point that is deleted meanwhile is not found afterwards.
    pub fn withhold_point(&self, id: BackupJobId) -> Result<Withheld, PointExported> {
        let now = self.clock.now();
        let mut known = self.exports.known();
        let of_it = |export: &&Export| export.point == id && export.expires_at > now;
        let open: Vec<ExportId> = known.open.values().filter(of_it).map(|it| it.id).collect();
        if !open.is_empty() || known.opening.contains(&id) {
            return Err(PointExported { point: id, exports: open });
        }
        known.withheld.push(id);
        Ok(Withheld { exports: self.exports.clone(), point: id })
    }

    /// The exports that are open now, by id.
    pub fn list_exports(&self) -> Vec<Export> {
        let now = self.clock.now();
        let known = self.exports.known();
        known.open.values().filter(|export| export.expires_at > now).cloned().collect()
    }

    /// The open export with this id.
    pub fn export(&self, id: ExportId) -> Option<Export> {
        let now = self.clock.now();
        self.exports.known().open.get(&id).filter(|export| export.expires_at > now).cloned()
    }

    /// Ends an export; whether there was one. One that could not be closed is known on, so that it can be tried again.
    pub async fn close_export(&self, id: ExportId) -> Result<bool, StorageError> {
        let found = self.exports.known().open.get(&id).cloned();
        let Some(export) = found else { return Ok(false) };
        self.storage.close_export(&export.address.export).await?;
        Ok(self.exports.known().open.remove(&id).is_some())
    }

    /// Ends the exports whose time is over; the hub calls it every few seconds.
    pub async fn reap_exports(&self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let over: Vec<ExportId> = {
            let known = self.exports.known();
            known.open.values().filter(|export| export.expires_at <= now).map(|it| it.id).collect()
        };
        self.close_each(over).await
    }

    /// Ends all exports, as at the hub's stop.
    pub async fn close_exports(&self) -> Result<(), StorageError> {
        let all: Vec<ExportId> = self.exports.known().open.keys().copied().collect();
        self.close_each(all).await
    }

    /// Closes every one of them, whatever happens to the others; the first error is told.
    async fn close_each(&self, ids: Vec<ExportId>) -> Result<(), StorageError> {
        let mut first = Ok(());
        for id in ids {
            first = first.and(self.close_export(id).await.map(drop));
        }
        first
    }
}
