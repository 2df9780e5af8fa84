//! SQLite cannot change a column or a foreign key: the table is made anew and the rows move.

use sea_orm_migration::sea_orm::DbErr;

use crate::ddl::{Ddl, Index};

/// A table as it shall be.
pub(crate) struct Rebuild<'a> {
    /// Its name.
    pub(crate) table: &'a str,
    /// `CREATE TABLE <table> …`, with the token where the name stands.
    pub(crate) definition: &'a str,
    /// The columns whose values move, separated by commas.
    pub(crate) columns: &'a str,
    /// The indexes it has afterwards.
    pub(crate) indexes: &'a [Index],
}

/// Rebuilds a table; any error rolls the whole step back.
///
/// Refused with foreign keys on or outside a transaction: dropping the old table would then empty its children.
pub(crate) async fn rebuild(ddl: &Ddl<'_>, to: &Rebuild<'_>) -> Result<(), DbErr> {
    let Rebuild { table, definition, columns, indexes } = to;
    if ddl.number("SELECT foreign_keys FROM pragma_foreign_keys").await? != 0
        || !ddl.is_transaction()
    {
        return Err(DbErr::Migration(format!("{table} cannot be rebuilt on this connection")));
    }
    let rows = ddl.number(&format!("SELECT COUNT(*) FROM {table}")).await?;
    let fresh = format!("{table}__new");
    ddl.run(&definition.replace("<table>", &fresh)).await?;
    ddl.run(&format!("INSERT INTO {fresh} ({columns}) SELECT {columns} FROM {table}")).await?;
    keep_sequence(ddl, table, &fresh).await?;
    ddl.run(&format!("DROP TABLE {table}")).await?;
    ddl.run(&format!("ALTER TABLE {fresh} RENAME TO {table}")).await?;
    for index in *indexes {
        ddl.index(index).await?;
    }
    let moved = ddl.number(&format!("SELECT COUNT(*) FROM {table}")).await?;
    let broken = ddl.number("SELECT COUNT(*) FROM pragma_foreign_key_check").await?;
    if moved != rows || broken != 0 {
        return Err(DbErr::Migration(format!(
            "rebuilding {table} kept {moved} of {rows} rows and broke {broken} references"
        )));
    }
    Ok(())
}

/// Carries the mark of AUTOINCREMENT over, or the ids of deleted rows would come back.
async fn keep_sequence(ddl: &Ddl<'_>, table: &str, fresh: &str) -> Result<(), DbErr> {
    if !ddl.has_table("sqlite_sequence").await? {
        return Ok(());
    }
    ddl.run(&format!("DELETE FROM sqlite_sequence WHERE name = '{fresh}'")).await?;
    ddl.run(&format!(
        "INSERT INTO sqlite_sequence (name, seq) SELECT '{fresh}', seq FROM sqlite_sequence WHERE name = '{table}'"
    ))
    .await
}
