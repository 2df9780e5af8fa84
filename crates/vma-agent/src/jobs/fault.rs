//! Causes of failure as the hub hears them: a stable code, and a sentence that says what to do.

use std::error::Error;

use hub_block::BlockError;
use hub_data_mover::CopyError;
use hub_nbd::{ConnectError, GivenUp};
use hub_vma_api::Fault;

use crate::hub_pin::plain_refused;
use crate::source::SourceError;

/// A fault from its code and its sentence.
pub(super) fn fault(code: &str, detail: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), detail: detail.into() }
}

/// A defect; the cause is in the VMA's log and not for the wire.
pub(super) fn internal() -> Fault {
    fault("internal", "the job ended unexpectedly; see the log of the VMA")
}

pub(super) fn of_source(error: &SourceError) -> Fault {
    fault(error.code(), error.to_string())
}

/// The hub's export could not be reached.
pub(super) fn of_connect(error: &ConnectError) -> Fault {
    match error {
        ConnectError::PlainRefused { .. } => return plain_refused(),
        ConnectError::Untrusted { .. } => {
            let detail = format!(
                "the target on the hub is not proven to be the hub's: {error}; somebody else may answer at that address, or the hub was set up anew"
            );
            return fault("target/untrusted", detail);
        }
        ConnectError::TlsRefused { .. } | ConnectError::Tls { .. } => {
            let detail = format!(
                "the target on the hub cannot be reached over TLS: {}; what answers there may not be the hub",
                chain(error)
            );
            return fault("target/tls-refused", detail);
        }
        ConnectError::TlsRequired { .. } => {
            let detail = format!(
                "the hub ordered a copy in the clear and its NBD port refuses that: {error}; look at nbd.plain and nbd.advertise_host of the hub"
            );
            return fault("target/tls-required", detail);
        }
        ConnectError::Dial { .. }
        | ConnectError::TimedOut { .. }
        | ConnectError::Broken { .. }
        | ConnectError::UnknownExport { .. }
        | ConnectError::Refused { .. }
        | ConnectError::Protocol { .. }
        | ConnectError::InvalidOptions(_)
        | _ => (),
    }
    let detail = format!(
        "the target on the hub cannot be opened: {}; check that the hub runs and that this VMA can reach its NBD port",
        chain(error)
    );
    fault("target/unreachable", detail)
}

/// The connections to the hub were lost for good.
pub(super) fn of_loss(loss: &GivenUp) -> Fault {
    match loss {
        GivenUp::Gone { .. } => fault(
            "target/gone",
            format!("{loss}; the hub was restarted, or has ended this copy; see its jobs"),
        ),
        GivenUp::Lost { .. } | GivenUp::NoPromise { .. } | _ => fault(
            "target/disconnected",
            format!(
                "the connection to the hub was lost: {loss}; check the hub and the network, then run the job again"
            ),
        ),
    }
}

/// The parent's digests could not be loaded.
pub(super) fn of_parent(error: &BlockError) -> Fault {
    let detail = format!(
        "the parent's digests cannot be read from the hub: {}; run the job again",
        chain(error)
    );
    fault("copy/parent-unreadable", detail)
}

/// The digest table's file.
pub(super) fn of_table(error: &std::io::Error) -> Fault {
    let detail = format!(
        "the VMA cannot keep its digest table: {error}; free space in its temporary directory"
    );
    fault("copy/digest-table", detail)
}

pub(super) fn of_copy(error: &CopyError) -> Fault {
    match error {
        CopyError::Source { offset, error } => {
            if let Some(refusal) = refusal(error) {
                return of_source(refusal);
            }
            let detail = format!(
                "the source could not be read at offset {offset}: {}; check the datastore, then run the job again",
                chain(error)
            );
            fault("source/read-failed", detail)
        }
        CopyError::Target { offset, error } => of_target(*offset, error),
        CopyError::SizeMismatch { .. } => {
            fault("target/capacity-mismatch", format!("{error}; run discovery, then start again"))
        }
        CopyError::Table(error) => of_table(error),
        CopyError::AreaOutOfRange { .. } | CopyError::Cancelled | CopyError::Digest(_) | _ => {
            internal()
        }
    }
}

/// What the source refused in the middle of a read, where that has a code of its own.
fn refusal(error: &BlockError) -> Option<&SourceError> {
    if let BlockError::Io(error) = error { error.get_ref()?.downcast_ref() } else { None }
}

fn of_target(offset: u64, error: &BlockError) -> Fault {
    match error {
        BlockError::NoSpace => fault(
            "target/no-space",
            "the repository on the hub is full; free space or choose another repository, then run the job again",
        ),
        BlockError::Disconnected(_) | BlockError::TimedOut(_) => fault(
            "target/disconnected",
            format!(
                "the connection to the hub was lost at offset {offset}: {error}; check the hub and the network, then run the job again"
            ),
        ),
        BlockError::ReadOnly => fault("target/read-only", "the target on the hub is read-only"),
        BlockError::OutOfRange { .. }
        | BlockError::Corrupt { .. }
        | BlockError::Unsupported(_)
        | BlockError::Io(_)
        | _ => fault(
            "target/write-failed",
            format!("the hub could not write at offset {offset}: {}", chain(error)),
        ),
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
