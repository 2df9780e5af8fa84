//! Copies as the hub orders them from a VMA, and what it hears back.

use std::fmt;
use std::time::Duration;

use crate::audit::{AuditOrder, Audited, Lie};
use crate::capacity::Capacity;
use crate::disk::DiskKey;
use crate::fault::Fault;

/// How the blocks of a disk are found that have to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyMethod {
    /// Everything that is not zero.
    Full,
    /// What the source says has changed since this mark.
    ChangedSince {
        /// The mark that an earlier point of the same chain stored.
        change_id: String,
    },
    /// Everything is read; blocks whose digest differs from the parent's are sent.
    ByDigest,
}

impl CopyMethod {
    /// The word for [`ChangedSince`](Self::ChangedSince), whatever its mark.
    pub const CHANGED_SINCE: &str = "changed_since";

    /// The word for it in the catalogue and on the wire.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ChangedSince { .. } => Self::CHANGED_SINCE,
            Self::ByDigest => "by_digest",
        }
    }
}

/// Where a VMA sends bytes, or reads a digest table: one export on the hub's NBD port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NbdAddress {
    /// Host name or address that the VMA can reach.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Export name: unguessable, and dead when its job has ended.
    pub export: String,
    /// How the server proves who it is; without it, the way is in the clear.
    pub tls: Option<NbdTls>,
}

impl fmt::Debug for NbdAddress {
    /// Without the export's name, which is a capability.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NbdAddress")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// How an NBD server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NbdTls {
    /// The name in its certificate; it stays when the address changes.
    pub server_name: String,
    /// SHA-256 of the certificate of the authority that signed it, hexadecimal.
    pub authority: String,
}

/// The digest table of the parent point, for the VMA to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentTable {
    /// The export that serves it.
    pub address: NbdAddress,
    /// The parent's capacity.
    pub capacity: Capacity,
    /// The table's root digest, hexadecimal.
    pub root: String,
}

/// An image that is ready to be written; only a repository or a replica store makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTarget {
    /// Where the bytes go; its export name is also the handle for sealing or abandoning.
    pub address: NbdAddress,
    /// Where the image lies, relative to its root.
    pub path: String,
    /// Bytes per digest.
    pub block_size: u32,
    /// Digests of what the target holds already; without them only a full copy is right.
    pub parent: Option<ParentTable>,
    /// Why there is no parent where one was expected.
    pub no_parent_reason: Option<String>,
    /// Bytes that an earlier attempt at this image has brought and that it still holds; `parent` is then the table of
    /// the image itself.
    pub kept_bytes: Option<u64>,
}

/// One disk of a copy order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedDisk {
    /// The hypervisor's id.
    pub key: DiskKey,
    /// The capacity that the target was prepared for.
    pub capacity: Capacity,
    /// The id of the disk behind the key, where it is known: the VMA reads no other one.
    pub backing_uuid: Option<String>,
    /// What to send.
    pub method: CopyMethod,
    /// Where to.
    pub target: PreparedTarget,
    /// How the source's word about changes is audited, where the method relies on it.
    pub audit: Option<AuditOrder>,
    /// Which chain is audited, where the whole disk is read.
    pub chain_audit: Option<ChainAuditOrder>,
}

/// Asks a copy that reads the whole disk to audit the source against the latest point of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainAuditOrder {
    /// The mark of that point.
    pub change_id: String,
    /// Its digests.
    pub table: ParentTable,
    /// Where the audit by parts stands, in bytes; it is passed on.
    pub from: u64,
}

/// Where a copy, or one disk of it, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyPhase {
    /// Accepted.
    Queued,
    /// Bytes move.
    Running,
    /// Everything arrived and was flushed.
    Succeeded,
    /// Ended by a fault.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
}

impl CopyPhase {
    /// Whether it will not change any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What a VMA reports about a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStatus {
    /// Folded over the disks.
    pub phase: CopyPhase,
    /// What it waits for at its source before it goes on, in a sentence.
    pub waiting: Option<String>,
    /// One entry per disk, in the order asked.
    pub disks: Vec<DiskCopyStatus>,
    /// Why it failed, when the cause is not one disk's.
    pub fault: Option<Fault>,
    /// Whether the guest was at rest for the copy's snapshot, where there is one and that is known.
    pub quiescence: Option<Quiescence>,
    /// Whether the VMA says that no snapshot of the copy is left; said at its end only, and only where it is certain.
    pub snapshot_is_gone: bool,
}

impl CopyStatus {
    /// Whether it does nothing but wait: no disk has begun that has not ended.
    pub fn only_waits(&self) -> bool {
        self.waiting.is_some() && self.disks.iter().all(|disk| disk.phase != CopyPhase::Running)
    }
}

/// Progress and proof of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCopyStatus {
    /// The hypervisor's id.
    pub key: DiskKey,
    /// Where it stands.
    pub phase: CopyPhase,
    /// The method really used.
    pub method: String,
    /// Why this method.
    pub method_reason: Option<String>,
    /// The way to the disk's bytes, where the source knows several.
    pub read_by: Option<ReadBy>,
    /// How far it is.
    pub bytes: CopyBytes,
    /// How long sending was held back by limits; it never falls.
    pub held_back: Duration,
    /// What was audited, once that is over, and the change that the source was found to have left out.
    pub audit: Option<(Audited, Option<Lie>)>,
    /// Mark for a later [`CopyMethod::ChangedSince`].
    pub change_id: Option<String>,
    /// Root digest of what the VMA read; set when succeeded.
    pub source_root: Option<String>,
    /// Why it failed.
    pub fault: Option<Fault>,
}

/// Why a disk is copied as it is: what the hub had ordered it for, and what its VMA says of it, said once each.
pub fn method_reason(ordered: Option<&str>, told: Option<&str>) -> Option<String> {
    match (ordered, told) {
        // It was told before, and more is said by now.
        (Some(ordered), Some(told)) if told.contains(ordered) => Some(told.to_owned()),
        (Some(ordered), Some(told)) if !ordered.contains(told) => {
            Some(format!("{ordered}; {told}"))
        }
        (Some(reason), _) | (None, Some(reason)) => Some(reason.to_owned()),
        (None, None) => None,
    }
}

/// Whether a guest's file systems were quiesced for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiescence {
    /// Whether they were.
    pub quiesced: bool,
    /// Why they were not, though that was asked for.
    pub reason: Option<String>,
}

/// A way to the bytes of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBy {
    /// The source's word for it, such as `vddk` or `https`.
    pub reader: String,
    /// Why it was chosen.
    pub reason: Option<String>,
}

/// Counters of a copy, in bytes where nothing else is said; they never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyBytes {
    /// To be looked at.
    pub total: u64,
    /// Looked at.
    pub done: u64,
    /// Read from the source.
    pub read: u64,
    /// Sent as data, also what was sent again.
    pub sent: u64,
    /// Of that, sent again because a connection was lost before it was answered.
    pub again: u64,
    /// How often connections were lost and made again; not bytes.
    pub reconnects: u64,
}

impl CopyBytes {
    /// The later of two reports, per counter, since reports may overtake each other (trap D24).
    pub fn max(self, other: Self) -> Self {
        Self {
            total: self.total.max(other.total),
            done: self.done.max(other.done),
            read: self.read.max(other.read),
            sent: self.sent.max(other.sent),
            again: self.again.max(other.again),
            reconnects: self.reconnects.max(other.reconnects),
        }
    }

    /// Counters of the whole from those of its parts.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            total: sum.total.saturating_add(part.total),
            done: sum.done.saturating_add(part.done),
            read: sum.read.saturating_add(part.read),
            sent: sum.sent.saturating_add(part.sent),
            again: sum.again.saturating_add(part.again),
            reconnects: sum.reconnects.saturating_add(part.reconnects),
        })
    }

    /// Where a copy stands that earlier attempts at it have moved already: what travelled adds up, what is looked at
    /// does not.
    pub fn after(self, earlier: Self) -> Self {
        let parts = Self::sum([earlier, self]);
        Self { total: self.total.max(earlier.total), done: self.done.max(earlier.done), ..parts }
    }
}

/// Who a vCenter or an ESXi host says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceAbout {
    /// Full name of the product.
    pub product: String,
    /// Version.
    pub version: String,
    /// Build.
    pub build: String,
    /// `VirtualCenter` or `HostAgent`.
    pub api_type: String,
    /// Its own id; an ESXi host has none.
    pub instance_uuid: Option<String>,
}

#[cfg(test)]
mod reasons {
    use super::method_reason;

    #[test]
    fn what_the_hub_ordered_a_method_for_outlives_what_its_vma_says() {
        let (lie, refused) = (Some("an audit found a lie"), Some("tracking was refused"));
        assert_eq!(method_reason(None, None), None);
        assert_eq!(method_reason(lie, None).as_deref(), lie);
        assert_eq!(method_reason(None, refused).as_deref(), refused);
        let both = method_reason(lie, refused);
        assert_eq!(both.as_deref(), Some("an audit found a lie; tracking was refused"));
        assert_eq!(method_reason(both.as_deref(), refused), both, "it is told with each report");
        let more = Some("tracking was refused; the chain was not audited");
        assert_eq!(method_reason(refused, more).as_deref(), more, "and more of it at the end");
    }
}
