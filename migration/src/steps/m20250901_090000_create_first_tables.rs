//! The schema as it was: a disk is stored only together with a replication job.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::loss::Risk;

pub(crate) struct CreateFirstTables;

#[async_trait]
impl Step for CreateFirstTables {
    fn name(&self) -> &'static str {
        "m20250901_090000_create_first_tables"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for definition in [CREDENTIALS, NODES, REPOSITORIES, CONTEXTS, REPLICATIONS] {
            ddl.run(definition).await?;
        }
        ddl.run(&VM_DISKS.replace("<table>", "vm_disks")).await?;
        ddl.run(RUNS).await?;
        ddl.run(&BACKUP_JOBS.replace("<table>", "backup_jobs")).await?;
        for index in INDEXES.iter().chain(BACKUP_JOB_INDEXES).chain([&VM_DISKS_JOB]) {
            ddl.index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in [
            "backup_jobs",
            "backup_runs",
            "vm_disks_archive_m20251006",
            "vm_disks",
            "replication_jobs",
            "vm_replication_contexts",
            "backup_repositories",
            "vma_nodes",
            "vmware_credentials",
        ] {
            ddl.run(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}

const RISKS: &[Risk] = &[
    Risk { table: "vm_replication_contexts", condition: "", what: "VM contexts are deleted" },
    Risk { table: "vm_disks", condition: "", what: "disks are deleted" },
    Risk { table: "vm_disks_archive_m20251006", condition: "", what: "archived disks are deleted" },
    Risk { table: "replication_jobs", condition: "", what: "replication jobs are deleted" },
    Risk {
        table: "backup_jobs",
        condition: "",
        what: "backup jobs are deleted (not their images)",
    },
    Risk { table: "backup_repositories", condition: "", what: "repositories are forgotten" },
    Risk { table: "vma_nodes", condition: "", what: "VMAs are forgotten" },
    Risk { table: "vmware_credentials", condition: "", what: "credentials are deleted" },
];

const CREDENTIALS: &str = "CREATE TABLE IF NOT EXISTS vmware_credentials (
    id <uuid> NOT NULL PRIMARY KEY,
    name <text> NOT NULL,
    vcenter_host <text> NOT NULL,
    username <text> NOT NULL,
    password_encrypted <long> NOT NULL,
    datacenter <text> NULL,
    created_at <time> NOT NULL,
    updated_at <time> NOT NULL,
    CONSTRAINT uq_vmware_credentials_name UNIQUE (name)
) <options>";

const NODES: &str = "CREATE TABLE IF NOT EXISTS vma_nodes (
    id <uuid> NOT NULL PRIMARY KEY,
    name <text> NOT NULL,
    url <path> NOT NULL,
    token_encrypted <long> NOT NULL,
    source_kind <text> NOT NULL,
    created_at <time> NOT NULL,
    CONSTRAINT uq_vma_nodes_name UNIQUE (name)
) <options>";

const REPOSITORIES: &str = "CREATE TABLE IF NOT EXISTS backup_repositories (
    id <uuid> NOT NULL PRIMARY KEY,
    name <text> NOT NULL,
    kind <text> NOT NULL CHECK (kind IN (<words:repository_kind>)),
    path <long> NOT NULL,
    created_at <time> NOT NULL,
    CONSTRAINT uq_backup_repositories_name UNIQUE (name)
) <options>";

/// A VM is the source's id at the source; its name is a label and may occur twice.
const CONTEXTS: &str = "CREATE TABLE IF NOT EXISTS vm_replication_contexts (
    context_id <uuid> NOT NULL PRIMARY KEY,
    vm_name <text> NOT NULL,
    vmware_vm_id <key> NOT NULL,
    vm_path <path> NOT NULL,
    vcenter_host <text> NOT NULL,
    datacenter <text> NOT NULL,
    current_status <text> NOT NULL CHECK (current_status IN (<words:context_status>)),
    cpu_count <big> NULL,
    memory_mb <big> NULL,
    os_type <text> NULL,
    power_state <text> NULL,
    credential_id <uuid> NULL,
    vma_node_id <uuid> NULL,
    created_at <time> NOT NULL,
    updated_at <time> NOT NULL,
    CONSTRAINT uq_vm_contexts_source UNIQUE (vcenter_host, vmware_vm_id),
    CONSTRAINT fk_vm_contexts_credential FOREIGN KEY (credential_id) REFERENCES vmware_credentials (id) ON DELETE RESTRICT,
    CONSTRAINT fk_vm_contexts_node FOREIGN KEY (vma_node_id) REFERENCES vma_nodes (id) ON DELETE RESTRICT
) <options>";

const REPLICATIONS: &str = "CREATE TABLE IF NOT EXISTS replication_jobs (
    id <uuid> NOT NULL PRIMARY KEY,
    vm_context_id <uuid> NOT NULL,
    replication_type <text> NOT NULL CHECK (replication_type IN (<words:replication_type>)),
    status <text> NOT NULL CHECK (status IN (<words:job_status>)),
    progress_percent INTEGER NOT NULL DEFAULT 0,
    bytes_total <big> NOT NULL DEFAULT 0,
    bytes_done <big> NOT NULL DEFAULT 0,
    error_code <text> NULL,
    error_text <long> NULL,
    created_at <time> NOT NULL,
    started_at <time> NULL,
    finished_at <time> NULL,
    CONSTRAINT fk_replication_jobs_context FOREIGN KEY (vm_context_id) REFERENCES vm_replication_contexts (context_id) ON DELETE CASCADE
) <options>";

/// The disks of a VM, each needing a job that takes it away when it goes.
pub(crate) const VM_DISKS: &str = "CREATE TABLE IF NOT EXISTS <table> (
    id <serial>,
    vm_context_id <uuid> NOT NULL,
    job_id <uuid> NOT NULL,
    disk_id <key> NOT NULL,
    label <text> NOT NULL,
    vmdk_path <path> NOT NULL,
    datastore <text> NOT NULL,
    size_gb <big> NOT NULL,
    capacity_bytes <big> NOT NULL CHECK (capacity_bytes > 0),
    provisioning_type <text> NULL,
    bus <text> NULL,
    unit_number <big> NULL,
    created_at <time> NOT NULL,
    updated_at <time> NOT NULL,
    CONSTRAINT uq_vm_disks_key UNIQUE (vm_context_id, disk_id),
    CONSTRAINT fk_vm_disks_context FOREIGN KEY (vm_context_id) REFERENCES vm_replication_contexts (context_id) ON DELETE CASCADE,
    CONSTRAINT fk_vm_disks_job FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE CASCADE
) <options>";

/// The columns of [`VM_DISKS`].
pub(crate) const VM_DISK_COLUMNS: &str = "id, vm_context_id, job_id, disk_id, label, vmdk_path, datastore, \
     size_gb, capacity_bytes, provisioning_type, bus, unit_number, created_at, updated_at";

/// Serves the foreign key; kept whatever that key says.
pub(crate) const VM_DISKS_JOB: Index =
    Index { name: "idx_vm_disks_job", table: "vm_disks", columns: "job_id", unique: false };

/// A run outlives the VM context, so the context is a plain column here and in backup jobs.
const RUNS: &str = "CREATE TABLE IF NOT EXISTS backup_runs (
    id <uuid> NOT NULL PRIMARY KEY,
    vm_context_id <uuid> NOT NULL,
    vm_name <text> NOT NULL,
    repository_id <uuid> NOT NULL,
    policy_id <uuid> NULL,
    backup_type <text> NOT NULL CHECK (backup_type IN (<words:backup_type>)),
    tags <long> NOT NULL,
    created_at <time> NOT NULL,
    CONSTRAINT fk_backup_runs_repository FOREIGN KEY (repository_id) REFERENCES backup_repositories (id) ON DELETE RESTRICT
) <options>";

/// Backup jobs before they named their disk.
pub(crate) const BACKUP_JOBS: &str = "CREATE TABLE IF NOT EXISTS <table> (
    id <uuid> NOT NULL PRIMARY KEY,
    run_id <uuid> NOT NULL,
    vm_context_id <uuid> NOT NULL,
    vm_name <text> NOT NULL,
    repository_id <uuid> NOT NULL,
    policy_id <uuid> NULL,
    backup_type <text> NOT NULL CHECK (backup_type IN (<words:backup_type>)),
    status <text> NOT NULL CHECK (status IN (<words:job_status>)),
    repository_path <path> NULL,
    parent_backup_id <uuid> NULL,
    change_id <text> NULL,
    bytes_total <big> NOT NULL DEFAULT 0,
    bytes_done <big> NOT NULL DEFAULT 0,
    error_code <text> NULL,
    error_text <long> NULL,
    created_at <time> NOT NULL,
    started_at <time> NULL,
    finished_at <time> NULL,
    CONSTRAINT fk_backup_jobs_run FOREIGN KEY (run_id) REFERENCES backup_runs (id) ON DELETE RESTRICT,
    CONSTRAINT fk_backup_jobs_repository FOREIGN KEY (repository_id) REFERENCES backup_repositories (id) ON DELETE RESTRICT,
    CONSTRAINT fk_backup_jobs_parent FOREIGN KEY (parent_backup_id) REFERENCES backup_jobs (id) ON DELETE RESTRICT
) <options>";

/// The columns of [`BACKUP_JOBS`].
pub(crate) const BACKUP_JOB_COLUMNS: &str = "id, run_id, vm_context_id, vm_name, repository_id, policy_id, \
     backup_type, status, repository_path, parent_backup_id, change_id, bytes_total, bytes_done, error_code, \
     error_text, created_at, started_at, finished_at";

/// The indexes of [`BACKUP_JOBS`].
pub(crate) const BACKUP_JOB_INDEXES: &[Index] = &[
    Index { name: "idx_backup_jobs_run", table: "backup_jobs", columns: "run_id", unique: false },
    Index {
        name: "idx_backup_jobs_repository",
        table: "backup_jobs",
        columns: "repository_id",
        unique: false,
    },
    Index {
        name: "idx_backup_jobs_parent",
        table: "backup_jobs",
        columns: "parent_backup_id",
        unique: false,
    },
    Index { name: "idx_backup_jobs_name", table: "backup_jobs", columns: "vm_name", unique: false },
    Index {
        name: "idx_backup_jobs_status",
        table: "backup_jobs",
        columns: "status",
        unique: false,
    },
];

const INDEXES: &[Index] = &[
    Index {
        name: "idx_vm_contexts_name",
        table: "vm_replication_contexts",
        columns: "vm_name",
        unique: false,
    },
    Index {
        name: "idx_vm_contexts_credential",
        table: "vm_replication_contexts",
        columns: "credential_id",
        unique: false,
    },
    Index {
        name: "idx_vm_contexts_node",
        table: "vm_replication_contexts",
        columns: "vma_node_id",
        unique: false,
    },
    Index {
        name: "idx_replication_jobs_context",
        table: "replication_jobs",
        columns: "vm_context_id",
        unique: false,
    },
    Index {
        name: "idx_replication_jobs_status",
        table: "replication_jobs",
        columns: "status",
        unique: false,
    },
    Index {
        name: "idx_backup_runs_repository",
        table: "backup_runs",
        columns: "repository_id",
        unique: false,
    },
];
