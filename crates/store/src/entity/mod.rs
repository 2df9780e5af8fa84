//! The tables beside VMs and disks, row by row as the schema has them.

pub(crate) mod api_token;
pub(crate) mod backup_chain;
pub(crate) mod backup_job;
pub(crate) mod backup_run;
pub(crate) mod credential;
pub(crate) mod owed_cleanup;
pub(crate) mod replication_job;
pub(crate) mod replication_job_disk;
pub(crate) mod repository;
pub(crate) mod restore_job;
pub(crate) mod verification;
pub(crate) mod vma_node;
