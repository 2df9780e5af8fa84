//! Starting over: our tables are dropped, whatever state they are in, and made anew.

use sea_orm_migration::MigratorTrait as _;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};

use crate::ddl::{has_table, number};
use crate::dialect::Dialect;
use crate::history::{MigrateError, Migrator, listed, with_lock};
use crate::loss::Loss;
use crate::steps::TABLES;

/// The record of steps, made by the migration library.
const RECORD: &str = "seaql_migrations";

/// Drops every table of ours and makes the newest schema; tables of others are left alone.
///
/// Refused with [`MigrateError::Lossy`] while any of them holds rows, unless `allow_data_loss`.
pub async fn fresh(url: &str, allow_data_loss: bool) -> Result<(), MigrateError> {
    with_lock(url, async |db| {
        if !allow_data_loss {
            let mut rows = 0;
            for table in TABLES {
                if has_table(db, table).await? {
                    rows += number(db, &format!("SELECT COUNT(*) FROM {table}")).await?;
                }
            }
            if rows > 0 {
                let losses = [Loss { rows, what: "rows of the catalogue are deleted" }];
                return Err(MigrateError::Lossy { losses: listed(&losses) });
            }
        }
        drop_all(db).await?;
        Ok(Migrator::up(db, None).await?)
    })
    .await
}

async fn drop_all(db: &DatabaseConnection) -> Result<(), DbErr> {
    let dialect = Dialect::of(db);
    if dialect == Dialect::MariaDb {
        db.execute_unprepared("SET SESSION foreign_key_checks = 0").await?;
    }
    let cascade = if dialect == Dialect::Postgres { " CASCADE" } else { "" };
    for table in TABLES.iter().chain([&RECORD]) {
        db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}{cascade}")).await?;
    }
    if dialect == Dialect::MariaDb {
        db.execute_unprepared("SET SESSION foreign_key_checks = 1").await?;
    }
    Ok(())
}
