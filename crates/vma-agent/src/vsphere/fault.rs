//! What a failed call means for a source, and for a device that is being read.

use std::io;

use hub_block::BlockError;
use hub_vsphere::VsphereError;

use crate::source::SourceError;

/// A failed call as a refusal of the source.
pub(super) fn of_call(error: &VsphereError) -> SourceError {
    let detail = error.to_string();
    match error {
        VsphereError::Unreachable { .. }
        | VsphereError::Unavailable { .. }
        | VsphereError::TimedOut { .. }
        | VsphereError::SessionLost(_) => SourceError::EndpointUnreachable(detail),
        VsphereError::Untrusted { .. } => SourceError::EndpointUntrusted(detail),
        VsphereError::OtherServer { .. } => SourceError::OtherVcenter(detail),
        VsphereError::LoginRefused { .. } => SourceError::LoginRefused(detail),
        VsphereError::NotPermitted { .. } => SourceError::NotPermitted(detail),
        VsphereError::Fault { .. }
        | VsphereError::NotFound(_)
        | VsphereError::FileRefused { .. }
        | VsphereError::TaskStuck { .. }
        | VsphereError::Garbled { .. }
        | VsphereError::Setup(_)
        | _ => SourceError::CallFailed(detail),
    }
}

/// A failed read of a datastore file.
pub(super) fn of_read(error: &VsphereError, offset: u64) -> BlockError {
    let detail = error.to_string();
    match error {
        VsphereError::Unreachable { .. }
        | VsphereError::Unavailable { .. }
        | VsphereError::SessionLost(_) => BlockError::Disconnected(detail),
        VsphereError::TimedOut { after, .. } => BlockError::TimedOut(*after),
        VsphereError::Garbled { .. } => BlockError::Corrupt { offset, what: detail },
        VsphereError::NotFound(_) | VsphereError::FileRefused { status: 404, .. } => {
            BlockError::Io(io::Error::new(io::ErrorKind::NotFound, detail))
        }
        // Nothing is wrong with the disk, and what is wrong has a page of its own.
        VsphereError::OtherServer { .. } => BlockError::Io(io::Error::other(of_call(error))),
        VsphereError::Untrusted { .. }
        | VsphereError::FileRefused { .. }
        | VsphereError::LoginRefused { .. }
        | VsphereError::NotPermitted { .. }
        | VsphereError::Fault { .. }
        | VsphereError::TaskStuck { .. }
        | VsphereError::Setup(_)
        | _ => BlockError::Io(io::Error::other(detail)),
    }
}
