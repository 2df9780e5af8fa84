//! Copy jobs: one VM, all asked disks at one instant, pushed to the hub's NBD targets.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AuditOrder, AuditReport, ChainAudit, Credentials};

/// Starts a copy of the disks of one VM at one instant.
///
/// The request is idempotent: the same `job_id` again answers the job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The hub's id of the job; also the name of a snapshot, where one is taken.
    pub job_id: String,
    /// Which VM ([`Vm::id`](crate::Vm::id)).
    pub vm_id: String,
    /// The vCenter that the VM is of ([`Vcenter::instance_uuid`](crate::Vcenter::instance_uuid)), where the hub knows it.
    /// Another one may have a VM with the same id, as a copy of a vCenter has: then nothing is taken or read, and the
    /// request is refused, or the job fails, with `source/other-vcenter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcenter_uuid: Option<String>,
    /// How to log in, for a source that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The disks, each with its own target; at least one, and no two with one key or one target.
    pub disks: Vec<CopyDisk>,
    /// Whether the guest is brought to rest for the snapshot, where the source takes one; as the VMA is set up where
    /// nothing is said. A guest that does not come to rest is copied as it is, and the report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<bool>,
    /// How fast it may send.
    #[serde(default, skip_serializing_if = "CopyRates::are_none")]
    pub rates: CopyRates,
}

/// Bytes of data per second that may be sent, 65,536 at least; nothing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRates {
    /// By this job; the same request again with another rate changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// By all jobs of the VMA together; the one that was [read](Self::read) last holds for all of them. The VMA may
    /// have a lower one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vma: Option<u64>,
    /// Tells the later of two words about `vma`, in whatever order they arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<RateReading>,
}

/// When the hub read the limit of a VMA: the later reading holds, and an older one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateReading {
    /// The start of the hub that counts; a word of another start holds when it arrives.
    pub epoch: u64,
    /// Counted up with each reading.
    pub number: u64,
}

impl CopyRates {
    /// Whether nothing is said about limits.
    pub const fn are_none(&self) -> bool {
        self.job.is_none() && self.vma.is_none() && self.read.is_none()
    }
}

/// One disk of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyDisk {
    /// The hypervisor's id ([`VmDisk::id`](crate::VmDisk::id)).
    pub key: String,
    /// The capacity that the hub prepared its target for; any other size is refused before a byte moves.
    pub capacity_bytes: u64,
    /// The disk behind the key ([`VmDisk::backing_uuid`](crate::VmDisk::backing_uuid)), where the hub knows it. Where the
    /// source tells another one, somebody has exchanged the disk, and its bytes would be taken for those of the first:
    /// then no byte of it is read, and the request is refused, or the job fails, with `source/other-disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_uuid: Option<String>,
    /// Where the bytes go.
    pub target: NbdTarget,
    /// What to send.
    pub method: CopyMethod,
    /// Bytes per digest, a power of two.
    pub block_size: u32,
    /// Digests of what the target holds already; needed by every method but [`CopyMethod::Full`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentManifest>,
    /// Whether the source's word about changes is audited, in a copy by [`CopyMethod::ChangedSince`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditOrder>,
    /// Which chain is audited by a copy that reads the whole disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_audit: Option<ChainAudit>,
}

/// An NBD export of the hub.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NbdTarget {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Export name: unguessable, and dead when its job has ended.
    pub export: String,
    /// How the hub proves who it is over TLS; without it, the hub is spoken to in the clear, where the VMA allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<NbdTls>,
}

impl fmt::Debug for NbdTarget {
    /// Without the export's name, which is a capability.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NbdTarget")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// How a hub's NBD server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NbdTls {
    /// The name in its certificate; it stays when the address changes.
    pub server_name: String,
    /// SHA-256 of the authority's certificate, hexadecimal: the one of the hub's [`Introduction`](crate::Introduction).
    pub authority: String,
}

/// Which blocks of a disk are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CopyMethod {
    /// Everything that is not zero.
    Full,
    /// What the source says has changed since `change_id`; falls back to [`CopyMethod::ByDigest`] when in doubt.
    ChangedSince {
        /// The mark that an earlier job reported for this disk.
        change_id: String,
    },
    /// Reads everything, sends the blocks whose digest is not the parent's.
    ByDigest,
}

impl CopyMethod {
    /// The word for it on the wire and in the catalogue.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ChangedSince { .. } => "changed_since",
            Self::ByDigest => "by_digest",
        }
    }
}

/// A read-only NBD export that holds the digest table of the parent point: 32 bytes per block, in order,
/// all zero for a block of zeroes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentManifest {
    /// Where to read it.
    pub target: NbdTarget,
    /// Bytes per digest; equals [`CopyDisk::block_size`].
    pub block_size: u32,
    /// The parent's capacity; smaller than the disk's when the disk has grown.
    pub capacity_bytes: u64,
    /// Root digest of the table, to be checked after reading it.
    pub root: String,
}

/// Where a job, or one disk of it, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// Accepted, not started.
    Queued,
    /// Bytes move.
    Running,
    /// Everything arrived and was flushed by the hub.
    Succeeded,
    /// Ended by a fault.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
}

impl CopyState {
    /// Whether it will not change any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What is known about a job; terminal when `state` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The hub's id of the job.
    pub job_id: String,
    /// Folded over the disks: succeeded only when all have.
    pub state: CopyState,
    /// What it waits for before it goes on, in a sentence; it is alive meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// One entry per asked disk, in the order asked.
    pub disks: Vec<DiskReport>,
    /// Why the job failed, when the cause is not one disk's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// What became of the job's snapshot, where the source takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotReport>,
}

/// The one snapshot of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// `none` (not taken, or not yet), `present`, `removed`, or `owed` (it was taken, could not be removed, and has to
    /// be). In a terminal report only `none` and `removed` mean that nothing is left at the source.
    pub state: String,
    /// Reference of the managed object, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether the guest's file systems were quiesced for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced: Option<bool>,
    /// Why they were not, though that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce_reason: Option<String>,
    /// Why it could not be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Progress and proof of one disk; numbers never go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// The hypervisor's id.
    pub key: String,
    /// Where it stands.
    pub state: CopyState,
    /// The method really used, by [`CopyMethod::name`].
    pub method: String,
    /// Why this method, in a sentence; always given where it is not the one asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_reason: Option<String>,
    /// The way to the disk's bytes, where the source knows several: `vddk` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Why this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_reason: Option<String>,
    /// Bytes that have to be looked at.
    pub bytes_total: u64,
    /// Of those, looked at.
    pub bytes_done: u64,
    /// Bytes read from the source; holes are not read.
    pub bytes_read: u64,
    /// Bytes of data sent to the hub, those that were sent again included.
    pub bytes_sent: u64,
    /// Of those, sent again because a connection was lost before the hub had answered.
    #[serde(default)]
    pub bytes_sent_again: u64,
    /// How often connections to the hub were lost and made again.
    #[serde(default)]
    pub reconnects: u64,
    /// Milliseconds that sending was held back by limits; while it grows, the copy is alive.
    #[serde(default)]
    pub held_back_ms: u64,
    /// What the audit of the source's word about changes has found, once it is over; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReport>,
    /// Mark for a later [`CopyMethod::ChangedSince`], where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// Root digest over the whole disk as the source held it: the proof at the VMA's end. Set when succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_root: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

/// A cause of failure: a stable code for programs, a sentence for people that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable, with a slash (`source/vm-running-without-snapshot`).
    pub code: String,
    /// A sentence; never a secret.
    pub detail: String,
}
