//! What a replication stores when it did not succeed, beyond what its VMA and its storage say themselves.

use std::error::Error;

use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_ports::{Classify, ErrorClass};

/// Why a run ended badly that nobody else has a word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunFault {
    /// The watchdog (trap D5).
    #[error("no byte of the copy moved for {seconds} seconds; look at the VMA and its source")]
    Stalled {
        /// How long it was watched.
        seconds: u64,
    },
    /// The VMA ended it by itself.
    #[error("the VMA stopped the copy without being asked to; check that it runs, and start again")]
    StoppedAtVma,
    /// A shutdown.
    #[error("the hub was stopped while this job was at work; start it again")]
    HubStopped,
    /// A crash, or a shutdown that took too long.
    #[error("the hub was restarted while this job was at work; start it again")]
    HubRestarted,
}

impl Classify for RunFault {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Stalled { .. } | Self::StoppedAtVma => ErrorClass::Upstream,
            Self::HubStopped | Self::HubRestarted => ErrorClass::Unavailable,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Stalled { .. } => "replication/stalled",
            Self::StoppedAtVma => "replication/stopped-at-vma",
            Self::HubStopped => "job/hub-stopped",
            Self::HubRestarted => "job/hub-restarted",
        }
    }
}

/// The fault of an error: its code, and the error with its causes in one sentence.
pub(crate) fn fault_of(error: &dyn Classify) -> Fault {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = Error::source(cause);
    }
    Fault::new(error.code(), text)
}

/// The same fault, told with the disk that it happened to.
pub(crate) fn of_disk(key: &DiskKey, fault: Fault) -> Fault {
    Fault { detail: format!("disk {key}: {}", fault.detail), ..fault }
}
