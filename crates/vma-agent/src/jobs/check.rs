//! The look at the source before an order becomes a job: what is refused is refused at once, where the source answers.
//!
//! A source that takes its time must not cost a run: the order is accepted, and the job waits for the answer and says
//! so, as it does while its disks are opened.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::source::{OpenRequest, Source, SourceError};

/// A check that is under way; dropping it ends it.
pub(super) struct Check {
    running: JoinSet<Result<(), SourceError>>,
}

impl Check {
    /// Begins a check that may outlive the request that asked for it.
    pub(super) fn begin(source: Arc<dyn Source>, asked: OpenRequest, runtime: &Handle) -> Self {
        let mut running = JoinSet::new();
        let check = async move { source.check(&asked).await };
        running.spawn_on(check.in_current_span(), runtime);
        Self { running }
    }

    /// What the source refuses within this time; no refusal may only mean that the check goes on.
    pub(super) async fn within(&mut self, patience: Duration) -> Result<(), SourceError> {
        tokio::time::timeout(patience, self.answer()).await.unwrap_or(Ok(()))
    }

    /// What the source says, however long that takes; its calls have deadlines.
    pub(super) async fn end(mut self) -> Result<(), SourceError> {
        self.answer().await
    }

    /// The answer is given once; there is nothing to wait for after it.
    async fn answer(&mut self) -> Result<(), SourceError> {
        match self.running.join_next().await {
            None => Ok(()),
            Some(Ok(checked)) => checked,
            Some(Err(error)) => Err(SourceError::Internal(error.to_string())),
        }
    }
}
