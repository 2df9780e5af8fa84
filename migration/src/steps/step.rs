//! What a step is, and the list of all of them.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::{
    m20250901_090000_create_first_tables, m20251006_200000_make_vm_disks_job_id_nullable,
    m20251006_210000_add_backup_jobs_disk_id, m20251020_090000_add_disk_ordinals_and_presence,
    m20251027_090000_create_backup_chains, m20251103_090000_add_backup_proofs,
    m20251110_090000_create_replication_job_disks, m20251117_090000_create_restores_and_tokens,
    m20251123_090000_add_copy_attempts, m20251124_090000_add_copy_limits,
    m20251125_090000_add_vm_identity, m20251125_100000_add_disk_identity,
    m20251125_110000_create_owed_cleanups, m20251125_120000_add_source_facts,
    m20251126_090000_add_change_audits, m20251127_090000_add_quiescence,
    m20251127_110000_add_remarks, m20251127_111000_index_suspicions,
};
use crate::ddl::Ddl;
use crate::loss::Risk;

/// Every table that any step makes, children first.
pub(crate) const TABLES: &[&str] = &[
    "owed_cleanups",
    "api_tokens",
    "verifications",
    "restore_jobs",
    "replication_job_disks",
    "backup_chains",
    "backup_jobs",
    "backup_runs",
    "vm_disks_archive_m20251006",
    "vm_disks",
    "replication_jobs",
    "vm_replication_contexts",
    "backup_repositories",
    "vma_nodes",
    "vmware_credentials",
];

/// All steps, oldest first.
pub(crate) fn all() -> Vec<Recorded> {
    let steps: Vec<Box<dyn Step>> = vec![
        Box::new(m20250901_090000_create_first_tables::CreateFirstTables),
        Box::new(m20251006_200000_make_vm_disks_job_id_nullable::MakeJobIdNullable),
        Box::new(m20251006_210000_add_backup_jobs_disk_id::AddDiskId),
        Box::new(m20251020_090000_add_disk_ordinals_and_presence::AddOrdinalsAndPresence),
        Box::new(m20251027_090000_create_backup_chains::CreateBackupChains),
        Box::new(m20251103_090000_add_backup_proofs::AddBackupProofs),
        Box::new(m20251110_090000_create_replication_job_disks::CreateReplicationJobDisks),
        Box::new(m20251117_090000_create_restores_and_tokens::CreateRestoresAndTokens),
        Box::new(m20251123_090000_add_copy_attempts::AddCopyAttempts),
        Box::new(m20251124_090000_add_copy_limits::AddCopyLimits),
        Box::new(m20251125_090000_add_vm_identity::AddVmIdentity),
        Box::new(m20251125_100000_add_disk_identity::AddDiskIdentity),
        Box::new(m20251125_110000_create_owed_cleanups::CreateOwedCleanups),
        Box::new(m20251125_120000_add_source_facts::AddSourceFacts),
        Box::new(m20251126_090000_add_change_audits::AddChangeAudits),
        Box::new(m20251127_090000_add_quiescence::AddQuiescence),
        Box::new(m20251127_110000_add_remarks::AddRemarks),
        Box::new(m20251127_111000_index_suspicions::IndexSuspicions),
    ];
    steps.into_iter().map(Recorded).collect()
}

/// One change of the schema and its way back.
///
/// MariaDB commits each DDL statement by itself, so every statement asks first whether it is still needed: a step
/// that was interrupted is simply run again.
#[async_trait]
pub(crate) trait Step: Send + Sync {
    /// The name under which the database remembers it.
    fn name(&self) -> &'static str;

    /// What the way back cannot keep.
    fn risks(&self) -> &'static [Risk];

    /// Makes the change.
    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr>;

    /// Takes it back.
    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr>;
}

/// A step as the migration library runs and records it.
pub(crate) struct Recorded(Box<dyn Step>);

impl Recorded {
    pub(crate) fn step_name(&self) -> &'static str {
        self.0.name()
    }

    pub(crate) fn risks(&self) -> &'static [Risk] {
        self.0.risks()
    }
}

impl MigrationName for Recorded {
    fn name(&self) -> &str {
        self.0.name()
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait elides it, and its macro wants the same spelling"
)]
#[async_trait]
impl MigrationTrait for Recorded {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.up(&Ddl::new(manager.get_connection())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.0.down(&Ddl::new(manager.get_connection())).await
    }

    /// A step and its record are one transaction, where the database has such for DDL.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
