//! What can go wrong with a call, and what to do.

use std::time::Duration;

use crate::fault::MethodFault;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VsphereError {
    /// No connection, or it broke.
    #[error(
        "`{endpoint}` cannot be reached: {detail}; check its name, the network and the firewall"
    )]
    Unreachable {
        /// Host and port.
        endpoint: String,
        /// What the system said.
        detail: String,
    },
    /// The server did not prove who it is.
    #[error(
        "`{endpoint}` shows a certificate that is not trusted: {detail}; its SHA-256 thumbprint is {seen}: compare it at the server, then configure the thumbprint or the authority behind it"
    )]
    Untrusted {
        /// Host and port.
        endpoint: String,
        /// What is wrong with it.
        detail: String,
        /// Thumbprint of what was shown.
        seen: String,
    },
    /// Wrong name or password, or a locked account.
    #[error(
        "`{endpoint}` refuses the login of `{username}`; check name and password, and that the account is not locked"
    )]
    LoginRefused {
        /// Host and port.
        endpoint: String,
        /// The account.
        username: String,
    },
    /// The account lacks a privilege.
    #[error(
        "the account lacks the privilege {privilege} on {object}; grant it, see docs/vsphere.md"
    )]
    NotPermitted {
        /// The privilege's id.
        privilege: String,
        /// The object it is wanted on.
        object: String,
    },
    /// The object does not exist any more.
    #[error("{0} does not exist any more; run discovery again")]
    NotFound(String),
    /// A datastore file is not served.
    #[error("the server answers HTTP status {status} for the file {file}")]
    FileRefused {
        /// Its datastore path and its datacenter.
        file: String,
        /// The status.
        status: u16,
    },
    /// The session ended and could not be renewed.
    #[error("`{0}` ends every session at once; look at its logs and its session limits")]
    SessionLost(String),
    /// The name of the server leads to another one since its session was lost.
    #[error(
        "`{endpoint}` leads to another server than at first: the id of that one was {known}, and of this one it is {found}; let the name lead to the first one again, or begin anew"
    )]
    OtherServer {
        /// Host and port.
        endpoint: String,
        /// The id of the one that the session was opened with, or `none`.
        known: String,
        /// The id of the one that answers now, or `none`.
        found: String,
    },
    /// The server is there and does not serve.
    #[error("`{endpoint}` answers HTTP status {status}; it may be starting, try again later")]
    Unavailable {
        /// Host and port.
        endpoint: String,
        /// The status.
        status: u16,
    },
    /// Any other fault that the server names.
    #[error("{method} failed: {fault}")]
    Fault {
        /// The method, or the task.
        method: &'static str,
        /// What the server said.
        fault: Box<MethodFault>,
    },
    /// No answer in time.
    #[error("{method} gave no complete answer within {} s", .after.as_secs())]
    TimedOut {
        /// The method.
        method: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// A task that does not end.
    #[error("task {task} has not ended within {} s; look at it in the client of vSphere", .after.as_secs())]
    TaskStuck {
        /// The task's id.
        task: String,
        /// The deadline.
        after: Duration,
    },
    /// The answer breaks the contract.
    #[error("{method} was answered with something that is not understood: {detail}")]
    Garbled {
        /// The method.
        method: &'static str,
        /// What was wrong.
        detail: String,
    },
    /// The client could not be made.
    #[error("the client cannot be made: {0}")]
    Setup(String),
}

impl VsphereError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::TimedOut { .. }
                | Self::SessionLost(_)
        )
    }

    /// The fault that the server named, where it named one of no type of its own here.
    pub fn fault(&self) -> Option<&MethodFault> {
        if let Self::Fault { fault, .. } = self { Some(fault) } else { None }
    }
}
