//! A disk keeps its place in the VM for ever, and stays when the source has it no more (traps D7, D8).

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::loss::Risk;

pub(crate) struct AddOrdinalsAndPresence;

#[async_trait]
impl Step for AddOrdinalsAndPresence {
    fn name(&self) -> &'static str {
        "m20251020_090000_add_disk_ordinals_and_presence"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.add_columns("vm_disks", COLUMNS).await?;
        ddl.run_each(&[NUMBER_FROM], &[NUMBER_JOINED], &[NUMBER_FROM]).await?;
        ddl.index(&CONTEXT_ORDINAL).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.drop_index(&CONTEXT_ORDINAL).await?;
        ddl.drop_columns("vm_disks", COLUMNS).await
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "vm_disks",
    condition: "presence = 'retired'",
    what: "retired disks look present again until the next discovery",
}];

const COLUMNS: &[(&str, &str)] = &[
    ("ordinal", "INTEGER NOT NULL DEFAULT 0"),
    ("presence", "<text> NOT NULL DEFAULT 'present' CHECK (presence IN (<words:presence>))"),
];

/// Ordinals in the order of the rows: that is the order in which they were given before a way down.
const NUMBER_FROM: &str = "UPDATE vm_disks SET ordinal = ranked.place FROM (
        SELECT id, ROW_NUMBER() OVER (PARTITION BY vm_context_id ORDER BY id) - 1 AS place FROM vm_disks
    ) AS ranked WHERE ranked.id = vm_disks.id";

const NUMBER_JOINED: &str = "UPDATE vm_disks JOIN (
        SELECT id, ROW_NUMBER() OVER (PARTITION BY vm_context_id ORDER BY id) - 1 AS place FROM vm_disks
    ) AS ranked ON ranked.id = vm_disks.id SET vm_disks.ordinal = ranked.place";

const CONTEXT_ORDINAL: Index = Index {
    name: "uq_vm_disks_ordinal",
    table: "vm_disks",
    columns: "vm_context_id, ordinal",
    unique: true,
};
