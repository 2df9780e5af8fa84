//! The words that the schema's CHECK constraints allow, frozen as the steps wrote them.
//!
//! The store compares them with the domain's in a test, so that a new word cannot be forgotten here (trap D29).

/// Where a VM stands.
pub const CONTEXT_STATUS: &[&str] = &["discovered", "replicating", "ready_for_failover"];

/// Where a job of any kind stands.
pub const JOB_STATUS: &[&str] =
    &["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "interrupted"];

/// What a replication was asked to do.
pub const REPLICATION_TYPE: &[&str] = &["initial", "incremental"];

/// What a replica image is.
pub const REPLICA_FORMAT: &[&str] = &["raw", "qcow2"];

/// What a backup is.
pub const BACKUP_TYPE: &[&str] = &["full", "incremental"];

/// Whether a source still has a disk.
pub const PRESENCE: &[&str] = &["present", "retired"];

/// What a repository is.
pub const REPOSITORY_KIND: &[&str] = &["local"];

/// How the data of an image is stored.
pub const COMPRESSION: &[&str] = &["none", "zstd"];

/// What a restored file becomes.
pub const RESTORE_FORMAT: &[&str] = &["raw", "qcow2", "vmdk"];

/// How much is verified.
pub const VERIFICATION_SCOPE: &[&str] = &["point", "chain"];

/// Whose copy owes a clean-up.
pub const OWED_BY: &[&str] = &["backup", "replication"];

/// Every list with the name that SQL templates call it by.
pub(crate) const LISTS: &[(&str, &[&str])] = &[
    ("context_status", CONTEXT_STATUS),
    ("job_status", JOB_STATUS),
    ("replication_type", REPLICATION_TYPE),
    ("replica_format", REPLICA_FORMAT),
    ("backup_type", BACKUP_TYPE),
    ("presence", PRESENCE),
    ("repository_kind", REPOSITORY_KIND),
    ("compression", COMPRESSION),
    ("restore_format", RESTORE_FORMAT),
    ("verification_scope", VERIFICATION_SCOPE),
    ("owed_by", OWED_BY),
];
