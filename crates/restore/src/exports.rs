//! Read-only exports of points: open for a limited time, known to this hub only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_domain::ids::{BackupJobId, ExportId};
use hub_domain::source::NbdAddress;
use hub_domain::time::Timestamp;
use hub_ports::StorageError;
use tokio::sync::Mutex;

use crate::engine::Restore;
use crate::error::OpenExportError;
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
    open: Arc<Mutex<BTreeMap<ExportId, Export>>>,
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
        self.exports.open.lock().await.insert(export.id, export.clone());
        Ok(export)
    }

    /// The exports that are open now, by id.
    pub async fn list_exports(&self) -> Vec<Export> {
        let now = self.clock.now();
        let open = self.exports.open.lock().await;
        open.values().filter(|export| export.expires_at > now).cloned().collect()
    }

    /// The open export with this id.
    pub async fn export(&self, id: ExportId) -> Option<Export> {
        let now = self.clock.now();
        let open = self.exports.open.lock().await;
        open.get(&id).filter(|export| export.expires_at > now).cloned()
    }

    /// Ends an export; whether there was one. One that could not be closed is known on, so that it can be tried again.
    pub async fn close_export(&self, id: ExportId) -> Result<bool, StorageError> {
        let found = self.exports.open.lock().await.get(&id).cloned();
        let Some(export) = found else { return Ok(false) };
        self.storage.close_export(&export.address.export).await?;
        Ok(self.exports.open.lock().await.remove(&id).is_some())
    }

    /// Ends the exports whose time is over; the hub calls it every few seconds.
    pub async fn reap_exports(&self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let over: Vec<ExportId> = {
            let open = self.exports.open.lock().await;
            open.values().filter(|export| export.expires_at <= now).map(|it| it.id).collect()
        };
        self.close_each(over).await
    }

    /// Ends all exports, as at the hub's stop.
    pub async fn close_exports(&self) -> Result<(), StorageError> {
        let all: Vec<ExportId> = self.exports.open.lock().await.keys().copied().collect();
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
