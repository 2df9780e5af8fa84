//! Concerns by name: how grave each is, what it makes of a run, and what to do about it.

use crate::disk::DiskKey;

/// Something that speaks against a backup of a VM or a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Which.
    pub kind: ConcernKind,
    /// About what.
    pub about: About,
    /// What was found, in a sentence.
    pub detail: String,
}

impl Concern {
    /// Stable code, with a page of its own.
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// What it makes of a run.
    pub const fn effect(&self) -> Effect {
        self.kind.effect()
    }

    /// What was found and what to do, for a fault or a reason.
    pub fn sentence(&self) -> String {
        format!("{}; {}", self.detail, self.kind.remedy())
    }
}

/// What a concern is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The VM as a whole.
    Vm,
    /// One disk.
    Disk(DiskKey),
}

impl About {
    /// Whether it is about this disk, or about the whole VM.
    pub fn covers(&self, key: &DiskKey) -> bool {
        *self == Self::Vm || self.is_disk(key)
    }

    /// Whether it is about this disk.
    pub fn is_disk(&self, key: &DiskKey) -> bool {
        matches!(self, Self::Disk(it) if it == key)
    }
}

/// How grave a concern is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Costs time, or something that is not kept.
    Warning,
    /// Nothing can be protected as it is.
    Error,
}

impl Severity {
    /// The word for it on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a concern makes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The VM, or the disk, is not copied.
    Blocked,
    /// The source's word on changed blocks is not taken: everything is read, and compared with the chain.
    FullRead,
    /// Nothing but a word of warning.
    Warning,
}

impl Effect {
    /// The word for it on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::FullRead => "full_read",
            Self::Warning => "warning",
        }
    }
}

/// The concerns that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConcernKind {
    /// A template has no power state and takes no snapshot.
    Template,
    /// What is read might be ciphertext.
    Encrypted,
    /// Nobody answers for the VM.
    HostDisconnected,
    /// The VM, or the disk, is nothing that its reader reads.
    ReaderCannot,
    /// There is nothing to copy.
    NoDisks,
    /// The VM runs twice at once.
    FaultTolerance,
    /// Deltas of removed snapshots are still beneath the disks.
    ConsolidationNeeded,
    /// Snapshots of others exist, and the reader reads no deltas.
    SnapshotsForbidReading,
    /// Snapshots of others exist; tracking was on before ours.
    SnapshotsExist,
    /// Snapshots of others exist, so tracking must not be switched on.
    SnapshotsForbidTracking,
    /// The guest is to come to rest, and its tools cannot bring it there.
    CannotQuiesce,
    /// Too old for change tracking.
    HardwareVersion,
    /// The VM cannot track changes.
    TrackingNotSupported,
    /// Tracking is switched off.
    TrackingOff,
    /// Tracking is switched on and not yet at work for a disk.
    TrackingNotActive,
    /// Snapshots leave the disk out.
    IndependentDisk,
    /// The disk forgets what is written to it.
    NonpersistentDisk,
    /// Snapshots leave the device out.
    PhysicalRdm,
    /// A device that becomes a plain disk when it is restored.
    VirtualRdm,
    /// Several VMs write to it.
    SharedDisk,
}

impl ConcernKind {
    /// All of them, for lists and checks.
    pub const ALL: [Self; 20] = [
        Self::Template,
        Self::Encrypted,
        Self::HostDisconnected,
        Self::ReaderCannot,
        Self::NoDisks,
        Self::FaultTolerance,
        Self::ConsolidationNeeded,
        Self::SnapshotsForbidReading,
        Self::SnapshotsExist,
        Self::SnapshotsForbidTracking,
        Self::CannotQuiesce,
        Self::HardwareVersion,
        Self::TrackingNotSupported,
        Self::TrackingOff,
        Self::TrackingNotActive,
        Self::IndependentDisk,
        Self::NonpersistentDisk,
        Self::PhysicalRdm,
        Self::VirtualRdm,
        Self::SharedDisk,
    ];

    /// Stable code, with a page of its own.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Template => "preflight/template",
            Self::Encrypted => "preflight/encrypted",
            Self::HostDisconnected => "preflight/host-disconnected",
            Self::ReaderCannot => "preflight/reader-cannot",
            Self::NoDisks => "preflight/no-disks",
            Self::FaultTolerance => "preflight/fault-tolerance",
            Self::ConsolidationNeeded => "preflight/consolidation-needed",
            Self::SnapshotsForbidReading => "preflight/snapshots-forbid-reading",
            Self::SnapshotsExist => "preflight/snapshots-exist",
            Self::SnapshotsForbidTracking => "preflight/snapshots-forbid-tracking",
            Self::CannotQuiesce => "preflight/cannot-quiesce",
            Self::HardwareVersion => "preflight/hardware-version",
            Self::TrackingNotSupported => "preflight/tracking-not-supported",
            Self::TrackingOff => "preflight/tracking-off",
            Self::TrackingNotActive => "preflight/tracking-not-active",
            Self::IndependentDisk => "preflight/independent-disk",
            Self::NonpersistentDisk => "preflight/nonpersistent-disk",
            Self::PhysicalRdm => "preflight/physical-rdm",
            Self::VirtualRdm => "preflight/virtual-rdm",
            Self::SharedDisk => "preflight/shared-disk",
        }
    }

    /// What it makes of a run.
    pub const fn effect(self) -> Effect {
        match self {
            Self::Template
            | Self::Encrypted
            | Self::HostDisconnected
            | Self::ReaderCannot
            | Self::SnapshotsForbidReading
            | Self::NoDisks
            | Self::IndependentDisk
            | Self::NonpersistentDisk
            | Self::PhysicalRdm
            | Self::SharedDisk => Effect::Blocked,
            Self::FaultTolerance
            | Self::ConsolidationNeeded
            | Self::SnapshotsForbidTracking
            | Self::HardwareVersion
            | Self::TrackingNotSupported
            | Self::TrackingOff
            | Self::TrackingNotActive => Effect::FullRead,
            Self::SnapshotsExist | Self::CannotQuiesce | Self::VirtualRdm => Effect::Warning,
        }
    }

    /// Whether a change may go unseen while it lasts, whatever marks the source gives. The others say why there are
    /// no marks, or that there will be none: what a source tells to an old mark is the source's to judge.
    pub const fn hides_changes(self) -> bool {
        matches!(self, Self::ConsolidationNeeded | Self::FaultTolerance)
    }

    /// How grave it is.
    pub const fn severity(self) -> Severity {
        match self.effect() {
            Effect::Blocked => Severity::Error,
            // The first run switches tracking on; until then this is how a VM is.
            Effect::FullRead if matches!(self, Self::TrackingOff | Self::TrackingNotActive) => {
                Severity::Info
            }
            Effect::FullRead | Effect::Warning => Severity::Warning,
        }
    }

    /// What to do about it, as a clause.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Template => "make a VM of it, or back up a VM that was made from it",
            Self::Encrypted => "decrypt it, or protect it from inside of its guest",
            Self::HostDisconnected => {
                "connect its host in the vSphere client, or look for the datastore that the host has lost"
            }
            Self::ReaderCannot => {
                "set VDDK up, which reads more kinds of disks, or make a plain virtual disk of it (docs/vsphere.md)"
            }
            Self::NoDisks => "add a disk to it, or take it out of management",
            Self::FaultTolerance => {
                "its disks are read in full; switch fault tolerance off to have changed blocks used"
            }
            Self::ConsolidationNeeded => {
                "consolidate its disks in the vSphere client; until then they are read in full"
            }
            Self::SnapshotsForbidReading => {
                "remove them and consolidate the disks, or set VDDK up, which reads a disk through its deltas"
            }
            Self::SnapshotsExist => {
                "remove snapshots that nobody needs: they grow, and a restored VM has none of them"
            }
            Self::SnapshotsForbidTracking => {
                "remove them, so that change tracking can be switched on; until then the disks are read in full"
            }
            Self::CannotQuiesce => {
                "its snapshot is taken as after a power cut; install VMware Tools in its guest, or see why they do not run"
            }
            Self::HardwareVersion => {
                "upgrade its hardware version to 7 at least to have changed blocks used"
            }
            Self::TrackingNotSupported => {
                "its disks are read in full; move it to a host and hardware version that can"
            }
            Self::TrackingOff => "switch change tracking on; until then its disks are read in full",
            Self::TrackingNotActive => {
                "it begins with the next snapshot or power cycle; until then the disk is read in full"
            }
            Self::IndependentDisk => {
                "make it dependent (mode persistent) while the VM is off, or protect it from inside of the guest"
            }
            Self::NonpersistentDisk => "give it the mode persistent while the VM is off",
            Self::PhysicalRdm => {
                "give it virtual compatibility, or protect it from inside of the guest"
            }
            Self::VirtualRdm => "it is copied, and becomes a plain disk when it is restored",
            Self::SharedDisk => "protect what is on it from inside of one of its guests",
        }
    }
}
