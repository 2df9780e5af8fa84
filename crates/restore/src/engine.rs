//! The engine: what it needs, and what it does when the hub starts.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::fault::Fault;
use hub_domain::job::JobEvent;
use hub_domain::restore::{RestoreJob, Verification};
use hub_ports::store::readable;
use hub_ports::{
    BackupStorage, Clock, IdGen, RestoreOutput, Store, StoreError, retry_patiently, told,
};

use crate::exports::ExportRegistry;

/// Verifies, restores and exports restore points; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Restore {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Where the points lie.
    pub storage: Arc<dyn BackupStorage>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids to new jobs.
    pub ids: Arc<dyn IdGen>,
    /// The exports that are open.
    pub exports: ExportRegistry,
    /// How it works.
    pub options: Options,
}

/// How the engine works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often a running job's progress is stored.
    pub progress_interval: Duration,
    /// Longest time that an export may live.
    pub max_export_time: Duration,
    /// How long the storage may take to stop before it is left alone.
    pub stop_timeout: Duration,
    /// How long the catalogue may be away before a job gives up writing down how it went.
    pub store_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            progress_interval: Duration::from_secs(1),
            max_export_time: Duration::from_secs(7 * 24 * 3600),
            stop_timeout: Duration::from_secs(5),
            store_patience: Duration::from_secs(600),
        }
    }
}

impl Restore {
    /// Ends what a hub that is gone left at work: each such job becomes `interrupted`, and its unfinished file goes.
    ///
    /// Call it before anything new starts; calling it again changes nothing.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let mut view = self.store.view().await?;
        // A row that cannot be read stays as it is: no hub may be kept from starting by it.
        let restores = readable(view.unfinished_restores().await?);
        let verifications = readable(view.unfinished_verifications().await?);
        drop(view);
        let event = JobEvent::Interrupted(Fault::hub_restarted());
        for job in restores {
            let output = RestoreOutput { format: job.format, file_name: job.file_name.clone() };
            if let Err(error) = self.storage.abandon_restore(&output).await {
                tracing::warn!(job.id = %job.id, error = %told(&error),
                    "what an interrupted restore left could not be removed");
            }
            self.advance::<RestoreJob>(job.id, event.clone()).await?;
        }
        for job in verifications {
            self.advance::<Verification>(job.id, event.clone()).await?;
        }
        Ok(())
    }

    /// Runs something on the catalogue through conflicts and while the database is away.
    pub(crate) async fn patiently<T, F, Fut>(&self, unit: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        retry_patiently(self.options.store_patience, unit).await
    }
}
