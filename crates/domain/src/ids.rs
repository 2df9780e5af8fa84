//! Ids with a kind: a disk id cannot be passed where a job id is wanted.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! typed_id { ($($(#[$doc:meta])* $name:ident;)+) => { $(
    $(#[$doc])*
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct $name(Uuid);

    impl $name {
        /// Gives a raw id its kind; only the id source, the storage adapter and the edge that parses requests do this.
        pub const fn from_uuid(raw: Uuid) -> Self {
            Self(raw)
        }

        /// The raw id, for storage and the wire.
        pub const fn as_uuid(self) -> Uuid {
            self.0
        }
    }

    impl fmt::Display for $name {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(out)
        }
    }

    impl FromStr for $name {
        type Err = uuid::Error;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            Uuid::from_str(text).map(Self)
        }
    }
)+ } }

typed_id! {
    /// A VM under management.
    VmContextId;
    /// One replication job.
    ReplicationJobId;
    /// One protection of one VM at one instant.
    BackupRunId;
    /// One disk within a backup run; also the id of the restore point it becomes.
    BackupJobId;
    /// A place where images lie.
    RepositoryId;
    /// A login for a vCenter or an ESXi host.
    CredentialId;
    /// A registered VMA.
    VmaNodeId;
    /// A backup policy.
    PolicyId;
    /// One restore of one disk to a file.
    RestoreJobId;
    /// One verification of a point or a chain.
    VerificationId;
    /// One read-only NBD export of a restore point.
    ExportId;
    /// One API token.
    ApiTokenId;
}

/// One disk row of one VM; the catalogue numbers them and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmDiskId(i64);

impl VmDiskId {
    /// Gives a row id its kind; only the storage adapter does this.
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// The row id, for storage and the wire.
    pub const fn as_raw(self) -> i64 {
        self.0
    }
}

impl fmt::Display for VmDiskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
