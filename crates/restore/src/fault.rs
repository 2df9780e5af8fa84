//! What a job stores when the storage fails, or when somebody asked it to stop.

use hub_domain::fault::Fault;
use hub_domain::job::{JobEvent, JobStatus};
use hub_ports::{Classify, StorageError};

use crate::error::PointError;

/// How a job ends that the storage could not do.
pub(crate) fn ending(error: &StorageError, status: JobStatus) -> JobEvent {
    match (error, status) {
        (StorageError::Cancelled, JobStatus::Cancelling) => JobEvent::Cancelled,
        (StorageError::Cancelled, _) => JobEvent::Interrupted(Fault::hub_stopped()),
        _ => JobEvent::Failed(error.to_fault()),
    }
}

/// How a job ends whose point cannot be read any more.
pub(crate) fn unreadable(error: &PointError) -> JobEvent {
    JobEvent::Failed(Fault::new(error.code(), error.to_string()))
}
