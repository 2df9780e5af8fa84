//! A VM is known by the ids that it and its vCenter keep, and says what decides how it can be backed up.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::dialect::Dialect;
use crate::loss::Risk;
use crate::sqlite_rebuild::{Rebuild, rebuild};

pub(crate) struct AddVmIdentity;

#[async_trait]
impl Step for AddVmIdentity {
    fn name(&self) -> &'static str {
        "m20251125_090000_add_vm_identity"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        match ddl.dialect() {
            Dialect::MariaDb => {
                ddl.add_columns(TABLE, COLUMNS).await?;
                ddl.add_columns(TABLE, KEYS).await?;
                ddl.drop_index(&SOURCE).await?;
            }
            Dialect::Postgres => {
                ddl.add_columns(TABLE, COLUMNS).await?;
                ddl.add_columns(TABLE, KEYS).await?;
                ddl.run(
                    "ALTER TABLE vm_replication_contexts DROP CONSTRAINT uq_vm_contexts_source",
                )
                .await?;
            }
            Dialect::Sqlite => {
                let added: String = COLUMNS.iter().chain(KEYS).map(spelled).collect();
                rebuild(ddl, &to(&definition("", &added), &[])).await?;
            }
        }
        for index in OLD_INDEXES.iter().chain([&KEY, &LOCAL]) {
            ddl.index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for statement in FORGET_DOUBLES {
            ddl.run(&statement.replace("<doubles>", DOUBLES)).await?;
        }
        match ddl.dialect() {
            Dialect::MariaDb => ddl.index(&SOURCE).await?,
            Dialect::Postgres => {
                ddl.run(
                    "ALTER TABLE vm_replication_contexts ADD CONSTRAINT uq_vm_contexts_source \
                     UNIQUE (vcenter_host, vmware_vm_id)",
                )
                .await?;
            }
            Dialect::Sqlite => {
                let unique =
                    "CONSTRAINT uq_vm_contexts_source UNIQUE (vcenter_host, vmware_vm_id),";
                let definition = definition(unique, "");
                return rebuild(ddl, &to(&definition, OLD_INDEXES)).await;
            }
        }
        for index in [&KEY, &LOCAL] {
            ddl.drop_index(index).await?;
        }
        // MariaDB keeps a column as long as another is computed from it.
        ddl.drop_columns(TABLE, KEYS).await?;
        ddl.drop_columns(TABLE, COLUMNS).await
    }
}

const TABLE: &str = "vm_replication_contexts";

const RISKS: &[Risk] = &[
    Risk {
        table: TABLE,
        condition: "EXISTS (SELECT 1 FROM vm_replication_contexts newer \
                    WHERE newer.vcenter_host = vm_replication_contexts.vcenter_host \
                    AND newer.vmware_vm_id = vm_replication_contexts.vmware_vm_id \
                    AND newer.context_id > vm_replication_contexts.context_id)",
        what: "VM contexts that share host and id with a newer one are deleted (not their backups)",
    },
    Risk {
        table: TABLE,
        condition: "instance_uuid IS NOT NULL",
        what: "VMs lose the instance id by which a moved or newly registered one is recognised",
    },
];

/// The contexts that the older schema has no room for; MariaDB reads a table that it changes only behind a derived one.
const DOUBLES: &str = "SELECT context_id FROM (
        SELECT older.context_id FROM vm_replication_contexts older JOIN vm_replication_contexts newer
        ON newer.vcenter_host = older.vcenter_host AND newer.vmware_vm_id = older.vmware_vm_id
        AND newer.context_id > older.context_id
    ) AS doubles";

/// What hangs on them goes first: on SQLite a step runs with foreign keys off.
const FORGET_DOUBLES: &[&str] = &[
    "DELETE FROM replication_job_disks WHERE job_id IN (SELECT id FROM replication_jobs WHERE vm_context_id IN (<doubles>))",
    "DELETE FROM replication_job_disks WHERE vm_disk_id IN (SELECT id FROM vm_disks WHERE vm_context_id IN (<doubles>))",
    "UPDATE backup_jobs SET vm_disk_id = NULL WHERE vm_disk_id IN (SELECT id FROM vm_disks WHERE vm_context_id IN (<doubles>))",
    "DELETE FROM vm_disks WHERE vm_context_id IN (<doubles>)",
    "DELETE FROM replication_jobs WHERE vm_context_id IN (<doubles>)",
    "DELETE FROM vm_replication_contexts WHERE context_id IN (<doubles>)",
];

const COLUMNS: &[(&str, &str)] = &[
    ("vcenter_uuid", "<key> NULL"),
    ("instance_uuid", "<key> NULL"),
    ("moref", "<key> NULL"),
    ("conditions", "<long> NULL"),
    ("facts_at", "<time> NULL"),
];

/// What a VM is known by, computed by the database: an index over what may be absent would let doubles in.
const KEYS: &[(&str, &str)] = &[
    (
        "source_key",
        "<text> GENERATED ALWAYS AS (CASE WHEN vcenter_uuid IS NOT NULL AND instance_uuid IS NOT NULL \
         THEN vcenter_uuid ELSE vcenter_host END) STORED",
    ),
    (
        "vm_key",
        "<key> GENERATED ALWAYS AS (CASE WHEN vcenter_uuid IS NOT NULL AND instance_uuid IS NOT NULL \
         THEN instance_uuid ELSE vmware_vm_id END) STORED",
    ),
];

fn spelled((name, definition): &(&str, &str)) -> String {
    format!("{name} {definition},\n    ")
}

const OLD_COLUMNS: &str = "context_id, vm_name, vmware_vm_id, vm_path, vcenter_host, datacenter, current_status, \
     cpu_count, memory_mb, os_type, power_state, credential_id, vma_node_id, created_at, updated_at";

/// The table for SQLite, which cannot drop a constraint.
fn definition(unique: &str, added: &str) -> String {
    format!(
        "CREATE TABLE <table> (
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
    {added}
    {unique}
    CONSTRAINT fk_vm_contexts_credential FOREIGN KEY (credential_id) REFERENCES vmware_credentials (id) ON DELETE RESTRICT,
    CONSTRAINT fk_vm_contexts_node FOREIGN KEY (vma_node_id) REFERENCES vma_nodes (id) ON DELETE RESTRICT
)"
    )
}

fn to<'a>(definition: &'a str, indexes: &'a [Index]) -> Rebuild<'a> {
    Rebuild { table: TABLE, definition, columns: OLD_COLUMNS, indexes }
}

const OLD_INDEXES: &[Index] = &[
    Index { name: "idx_vm_contexts_name", table: TABLE, columns: "vm_name", unique: false },
    Index {
        name: "idx_vm_contexts_credential",
        table: TABLE,
        columns: "credential_id",
        unique: false,
    },
    Index { name: "idx_vm_contexts_node", table: TABLE, columns: "vma_node_id", unique: false },
];

/// As it was, where a constraint is an index.
const SOURCE: Index = Index {
    name: "uq_vm_contexts_source",
    table: TABLE,
    columns: "vcenter_host, vmware_vm_id",
    unique: true,
};

const KEY: Index =
    Index { name: "uq_vm_contexts_key", table: TABLE, columns: "source_key, vm_key", unique: true };

const LOCAL: Index = Index {
    name: "idx_vm_contexts_local",
    table: TABLE,
    columns: "vcenter_host, vmware_vm_id",
    unique: false,
};
