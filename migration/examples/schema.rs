//! Prints the newest schema as a document, read from a database that was just migrated.

#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

use anyhow::Context as _;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, QueryResult, Statement};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite://{}?mode=rwc", directory.path().join("catalogue.db").display());
    hub_migration::up(&url).await?;
    let db = Database::connect(&url).await?;
    println!("# Schema\n");
    println!("Written by `cargo xtask gen` from a migrated database.");
    println!(
        "Types are SQLite's; MariaDB and PostgreSQL have the same tables, columns, keys and rules in types of their own."
    );
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' \
        AND name NOT LIKE 'sqlite_%' AND name <> 'seaql_migrations' ORDER BY name";
    for row in rows(&db, names).await? {
        print_table(&db, &text(&row, 0)?).await?;
    }
    db.close().await?;
    Ok(())
}

async fn print_table(db: &DatabaseConnection, table: &str) -> anyhow::Result<()> {
    println!("\n## {table}\n");
    println!("| column | type | NULL | default | key |\n|---|---|---|---|---|");
    let columns = format!(
        "SELECT name, type, CASE WHEN \"notnull\" OR pk THEN 'no' ELSE 'yes' END, \
         COALESCE(dflt_value, ''), CASE WHEN pk THEN 'primary' ELSE '' END FROM pragma_table_info('{table}')"
    );
    for row in rows(db, &columns).await? {
        let cells = (0..5).map(|cell| text(&row, cell)).collect::<anyhow::Result<Vec<_>>>()?;
        println!("| {} |", cells.join(" | "));
    }
    let keys = format!(
        "SELECT group_concat(\"from\", ', '), \"table\", group_concat(\"to\", ', '), on_delete \
         FROM (SELECT * FROM pragma_foreign_key_list('{table}') ORDER BY id, seq) GROUP BY id \
         ORDER BY 1, 2"
    );
    print_list("Foreign keys", &rows(db, &keys).await?, |row| {
        Ok(format!(
            "`{}` → `{}` (`{}`), on delete {}",
            text(row, 0)?,
            text(row, 1)?,
            text(row, 2)?,
            text(row, 3)?.to_lowercase()
        ))
    })?;
    let indexes = format!(
        "SELECT CASE WHEN l.\"unique\" THEN 'unique ' ELSE '' END, \
         (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) \
         FROM pragma_index_list('{table}') AS l WHERE l.origin <> 'pk' ORDER BY 2, 1"
    );
    print_list("Indexes", &rows(db, &indexes).await?, |row| {
        Ok(format!("{}(`{}`)", text(row, 0)?, text(row, 1)?))
    })
}

fn print_list(
    title: &str,
    rows: &[QueryResult],
    line: impl Fn(&QueryResult) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    if !rows.is_empty() {
        println!("\n{title}:\n");
    }
    for row in rows {
        println!("- {}", line(row)?);
    }
    Ok(())
}

async fn rows(db: &DatabaseConnection, sql: &str) -> anyhow::Result<Vec<QueryResult>> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_all_raw(statement).await.with_context(|| format!("cannot ask {sql}"))
}

fn text(row: &QueryResult, column: usize) -> anyhow::Result<String> {
    row.try_get_by_index(column).context("a column is not a text")
}
