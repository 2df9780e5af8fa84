//! A disk is known by its backing, then by its key; a retired disk gives its key free.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::dialect::Dialect;
use crate::loss::Risk;
use crate::sqlite_rebuild::{Rebuild, rebuild};

pub(crate) struct AddDiskIdentity;

#[async_trait]
impl Step for AddDiskIdentity {
    fn name(&self) -> &'static str {
        "m20251125_100000_add_disk_identity"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        match ddl.dialect() {
            Dialect::MariaDb => {
                ddl.add_columns(TABLE, COLUMNS).await?;
                ddl.drop_index(&DISK_KEY).await?;
            }
            Dialect::Postgres => {
                ddl.add_columns(TABLE, COLUMNS).await?;
                ddl.run("ALTER TABLE vm_disks DROP CONSTRAINT uq_vm_disks_key").await?;
            }
            Dialect::Sqlite => {
                let spelled =
                    |(name, definition): &(&str, &str)| format!("{name} {definition},\n    ");
                let added: String = COLUMNS.iter().map(spelled).collect();
                rebuild(ddl, &to(&definition("", &added))).await?;
            }
        }
        ddl.index(&PRESENT).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for statement in FORGET_DOUBLES {
            ddl.run(&statement.replace("<doubles>", DOUBLES)).await?;
        }
        match ddl.dialect() {
            Dialect::MariaDb => ddl.index(&DISK_KEY).await?,
            Dialect::Postgres => {
                ddl.run(
                    "ALTER TABLE vm_disks ADD CONSTRAINT uq_vm_disks_key UNIQUE (vm_context_id, disk_id)",
                )
                .await?;
            }
            Dialect::Sqlite => {
                let unique = "CONSTRAINT uq_vm_disks_key UNIQUE (vm_context_id, disk_id),";
                let definition = definition(unique, "");
                return rebuild(ddl, &to(&definition)).await;
            }
        }
        ddl.drop_index(&PRESENT).await?;
        ddl.drop_columns(TABLE, COLUMNS).await
    }
}

const TABLE: &str = "vm_disks";

const RISKS: &[Risk] = &[
    Risk {
        table: TABLE,
        condition: "presence = 'retired' AND EXISTS (SELECT 1 FROM vm_disks other \
                    WHERE other.vm_context_id = vm_disks.vm_context_id AND other.disk_id = vm_disks.disk_id \
                    AND (other.presence = 'present' OR other.id > vm_disks.id))",
        what: "retired disks whose key another disk has are deleted (not their backups)",
    },
    Risk {
        table: TABLE,
        condition: "backing_uuid IS NOT NULL",
        what: "disks lose the id of their backing, by which a replaced one is told from a moved one",
    },
];

/// The disks that the older schema has no room for; MariaDB reads a table that it changes only behind a derived one.
const DOUBLES: &str = "SELECT id FROM (
        SELECT old.id FROM vm_disks old JOIN vm_disks other
        ON other.vm_context_id = old.vm_context_id AND other.disk_id = old.disk_id AND other.id <> old.id
        WHERE old.presence = 'retired' AND (other.presence = 'present' OR other.id > old.id)
    ) AS doubles";

/// What hangs on them goes first: on SQLite a step runs with foreign keys off.
const FORGET_DOUBLES: &[&str] = &[
    "DELETE FROM replication_job_disks WHERE vm_disk_id IN (<doubles>)",
    "UPDATE backup_jobs SET vm_disk_id = NULL WHERE vm_disk_id IN (<doubles>)",
    "DELETE FROM vm_disks WHERE id IN (<doubles>)",
];

/// `present_key` is the key while the disk is present, and NULL when it is retired: NULLs are never equal, so one
/// unique index says on every database that a key is one present disk's.
const COLUMNS: &[(&str, &str)] = &[
    ("backing_uuid", "<key> NULL"),
    ("conditions", "<long> NULL"),
    (
        "present_key",
        "<key> GENERATED ALWAYS AS (CASE WHEN presence = 'present' THEN disk_id END) STORED",
    ),
];

const OLD_COLUMNS: &str = "id, vm_context_id, job_id, disk_id, label, vmdk_path, datastore, size_gb, \
     capacity_bytes, provisioning_type, bus, unit_number, created_at, updated_at, ordinal, presence";

/// The table for SQLite, which cannot drop a constraint.
fn definition(unique: &str, added: &str) -> String {
    format!(
        "CREATE TABLE <table> (
    id <serial>,
    vm_context_id <uuid> NOT NULL,
    job_id <uuid> NULL,
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
    ordinal INTEGER NOT NULL DEFAULT 0,
    presence <text> NOT NULL DEFAULT 'present' CHECK (presence IN (<words:presence>)),
    {added}
    {unique}
    CONSTRAINT fk_vm_disks_context FOREIGN KEY (vm_context_id) REFERENCES vm_replication_contexts (context_id) ON DELETE CASCADE,
    CONSTRAINT fk_vm_disks_job_set_null FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE SET NULL
)"
    )
}

fn to(definition: &str) -> Rebuild<'_> {
    Rebuild { table: TABLE, definition, columns: OLD_COLUMNS, indexes: OLD_INDEXES }
}

const OLD_INDEXES: &[Index] = &[
    Index { name: "idx_vm_disks_job", table: TABLE, columns: "job_id", unique: false },
    Index {
        name: "idx_vm_disks_context_job",
        table: TABLE,
        columns: "vm_context_id, job_id",
        unique: false,
    },
    Index {
        name: "uq_vm_disks_ordinal",
        table: TABLE,
        columns: "vm_context_id, ordinal",
        unique: true,
    },
];

/// As it was, where a constraint is an index.
const DISK_KEY: Index = Index {
    name: "uq_vm_disks_key",
    table: TABLE,
    columns: "vm_context_id, disk_id",
    unique: true,
};

const PRESENT: Index = Index {
    name: "uq_vm_disks_present_key",
    table: TABLE,
    columns: "vm_context_id, present_key",
    unique: true,
};
