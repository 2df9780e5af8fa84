//! What a job stores when the storage fails, or when somebody asked it to stop.

use hub_domain::fault::Fault;
use hub_domain::job::{JobEvent, JobStatus};
use hub_ports::StorageError;

/// How a job ends that the storage could not do.
pub(crate) fn ending(error: &StorageError, status: JobStatus) -> JobEvent {
    match (error, status) {
        (StorageError::Cancelled, JobStatus::Cancelling) => JobEvent::Cancelled,
        // Nobody asked this job to stop, so it was the hub that is stopping.
        (StorageError::Cancelled, _) => JobEvent::Interrupted(Fault::new(
            "job/hub-stopped",
            "the hub was stopped while this job was at work; start it again",
        )),
        _ => JobEvent::Failed(error.to_fault()),
    }
}
