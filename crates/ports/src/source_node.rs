//! The VMA as engines see it: inventory, and copies that are started, watched and stopped.

use std::time::Duration;

use async_trait::async_trait;
use hub_domain::access::{Credential, VmaNode};
use hub_domain::fault::Fault;
use hub_domain::inventory::SeenInventory;
use hub_domain::limits::CopyRates;
use hub_domain::owed::CleanupOutcome;
use hub_domain::source::{CopyStatus, OrderedDisk, SourceAbout};

use crate::{Classify, ErrorClass, refusal};

/// Reaches VMAs; each call names the node, so one adapter serves many.
///
/// Every call has a deadline of its own and may be dropped at any await; a copy once accepted runs on at the VMA
/// until it ends or is cancelled there.
#[async_trait]
pub trait SourceNode: Send + Sync {
    /// Lets a node prove that it knows its token, before the token is shown to it, and say what it is.
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError>;

    /// Whether a node answers, by a cheap question, asked where another node could take its place.
    ///
    /// One that has just been found silent may be taken to be so for some seconds more, without being asked.
    async fn answers(&self, node: &VmaNode) -> Result<(), SourceError> {
        self.identify(node).await.map(drop)
    }

    /// Identifies a node and makes this hub known to it, once and for all: from then on the node sends disks to this
    /// hub only, whoever else shows the token.
    ///
    /// Again it changes nothing; a node that belongs to another hub refuses ([`SourceError::Refused`]). For a source
    /// that sends nothing anywhere it is the same as [`identify`](Self::identify).
    async fn introduce(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        self.identify(node).await
    }

    /// Lists VMs with their disks.
    async fn inventory(
        &self,
        node: &VmaNode,
        query: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError>;

    /// Starts a copy; the same job id again is the same copy.
    async fn start_copy(
        &self,
        node: &VmaNode,
        order: &CopyOrder,
    ) -> Result<CopyStatus, SourceError>;

    /// Asks how far a copy is; [`SourceError::UnknownJob`] when the node has never heard of it, or forgot (trap D38).
    async fn copy_status(&self, node: &VmaNode, job: &str) -> Result<CopyStatus, SourceError>;

    /// As [`copy_status`](Self::copy_status), but answered when more than `ended` disks of the copy have ended, or all
    /// of it, and otherwise after `patience`.
    ///
    /// A node that cannot wait answers at once; the caller keeps a pace of its own.
    async fn await_copy(
        &self,
        node: &VmaNode,
        job: &str,
        ended: usize,
        patience: Duration,
    ) -> Result<CopyStatus, SourceError> {
        let _ = (ended, patience);
        self.copy_status(node, job).await
    }

    /// Asks a copy to stop; it has stopped when its status is terminal.
    async fn cancel_copy(&self, node: &VmaNode, job: &str) -> Result<(), SourceError>;

    /// Lets the node log in to its source and out again, and says who let it in; `None` where no login is wanted. A
    /// login that is refused is [`SourceError::Refused`] with the node's code.
    async fn test_credential(
        &self,
        node: &VmaNode,
        credential: &Credential,
    ) -> Result<Option<SourceAbout>, SourceError> {
        let _ = (node, credential);
        Ok(None)
    }

    /// Lets the node remove the snapshot that a copy which is over has left, if it has left one; again it finds none.
    ///
    /// Dropping the future may leave the removal at work at the node.
    async fn clean_up(
        &self,
        node: &VmaNode,
        order: &CleanupOrder,
    ) -> Result<CleanupOutcome, SourceError> {
        let _ = (node, order);
        Ok(CleanupOutcome::None)
    }

    /// Lets the node forget what a copy that is over owes, and touch nothing at its source; whether it had a record. A
    /// copy at work is refused ([`SourceError::Refused`]).
    async fn strike_off(&self, node: &VmaNode, copy: &str) -> Result<bool, SourceError> {
        let _ = (node, copy);
        Ok(false)
    }
}

/// What a node said about itself, after it proved to be the one that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The name it was configured with.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `folder` or `vsphere`.
    pub source_kind: String,
    /// The vCenter or host that it reads; told at an introduction only, and not by a folder.
    pub source_host: Option<String>,
}

/// Which VMs to list.
#[derive(Clone, Debug, Default)]
pub struct InventoryQuery {
    /// The login for a source that wants one.
    pub credential: Option<Credential>,
    /// Only VMs with these names; empty means all.
    pub names: Vec<String>,
    /// Only VMs with these ids of the source; empty means all.
    pub ids: Vec<String>,
}

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    /// A backup run.
    Backup,
    /// A replication job.
    Replication,
}

/// One copy: one VM, all asked disks at one instant (trap D6).
#[derive(Clone, Debug)]
pub struct CopyOrder {
    /// What it is for.
    pub kind: CopyKind,
    /// The hub's id of the run or job.
    pub job: String,
    /// The source's id of the VM.
    pub vm: String,
    /// The id of the vCenter that the VM is of, where it is known; a node that reaches another one refuses
    /// ([`Fault::OTHER_VCENTER`]), since that one may have a VM of the same id.
    pub vcenter_uuid: Option<String>,
    /// The login for a source that wants one.
    pub credential: Option<Credential>,
    /// The disks, each with a target of its own.
    pub disks: Vec<OrderedDisk>,
    /// Whether the guest is quiesced for the snapshot, where the source takes one; as the VMA is set up where nothing
    /// is said. A guest that does not come to rest is copied as it is, and the status says so.
    pub quiesce: Option<bool>,
    /// How fast it may send.
    pub rates: CopyRates,
}

/// A snapshot that a copy may have left.
#[derive(Clone, Debug)]
pub struct CleanupOrder {
    /// What the copy was called: its snapshot carries this name, and no other is touched.
    pub copy: String,
    /// The source's id of the VM.
    pub vm: String,
    /// Which vCenter or host the VM is of; a node at another one must not say that there is no snapshot.
    pub source: String,
    /// The login for a source that wants one.
    pub credential: Option<Credential>,
}

/// What a VMA may answer instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nobody answers at its address, or not in time.
    #[error(
        "the VMA at {url} cannot be reached: {detail}; check that it runs and that the hub can reach it"
    )]
    Unreachable {
        /// Its base URL.
        url: String,
        /// What happened.
        detail: String,
    },
    /// Whoever answers does not know the shared token.
    #[error("whatever answers at {url} is not the VMA that was registered; check its token")]
    NotTheNode {
        /// Its base URL.
        url: String,
    },
    /// The VMA does not accept our token.
    #[error(
        "the VMA at {url} refuses the hub's token; register it again with the token it printed"
    )]
    TokenRefused {
        /// Its base URL.
        url: String,
    },
    /// The VMA has never heard of the job, or was restarted since.
    #[error("the VMA knows no job {job}, probably because it was restarted; start the job again")]
    UnknownJob {
        /// The hub's id of the job.
        job: String,
    },
    /// The VMA said no, and why; a code of its own that has a page is told as it is, with the class that fits it.
    #[error("the VMA refused: {}", .0.detail)]
    Refused(Fault),
    /// The answer is not one of this contract.
    #[error("the VMA at {url} gave an answer that makes no sense: {detail}")]
    Garbled {
        /// Its base URL.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl SourceError {
    /// The fault that a job stores for this error; a refusal keeps the VMA's own code.
    pub fn to_fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            Self::Unreachable { .. }
            | Self::NotTheNode { .. }
            | Self::TokenRefused { .. }
            | Self::UnknownJob { .. }
            | Self::Garbled { .. } => Fault::new(self.code(), self.to_string()),
        }
    }
}

impl Classify for SourceError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } => ErrorClass::Unavailable,
            Self::Refused(fault) => refusal::told_as(&fault.code).1,
            Self::NotTheNode { .. }
            | Self::TokenRefused { .. }
            | Self::UnknownJob { .. }
            | Self::Garbled { .. } => ErrorClass::Upstream,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "vma/unreachable",
            Self::NotTheNode { .. } => "vma/not-the-node",
            Self::TokenRefused { .. } => "vma/token-refused",
            Self::UnknownJob { .. } => "vma/unknown-job",
            Self::Refused(fault) => refusal::told_as(&fault.code).0,
            Self::Garbled { .. } => "vma/garbled-answer",
        }
    }

    /// A call that nobody answered may be sent again as it is; a refusal is the VMA's word, however soon it may change.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
