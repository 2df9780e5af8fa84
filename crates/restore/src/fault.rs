//! What a job stores when the storage fails, or when somebody asked it to stop.

use std::error::Error;

use hub_domain::fault::Fault;
use hub_domain::job::{JobEvent, JobStatus};
use hub_ports::{Classify, StorageError};

/// How a job ends that the storage could not do.
pub(crate) fn ending(error: &StorageError, status: JobStatus) -> JobEvent {
    match (error, status) {
        (StorageError::Cancelled, JobStatus::Cancelling) => JobEvent::Cancelled,
        // Nobody asked this job to stop, so it was the hub that is stopping.
        (StorageError::Cancelled, _) => JobEvent::Interrupted(Fault::new(
            "job/hub-stopped",
            "the hub was stopped while this job was at work; start it again",
        )),
        _ => JobEvent::Failed(Fault::new(error.code(), told(error))),
    }
}

/// An error with its causes, in one sentence.
fn told(error: &StorageError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
