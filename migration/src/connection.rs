//! A connection of its own for migrations: exactly one, for locks and pragmas live on it.

use std::time::Duration;

use sea_orm_migration::sea_orm::sqlx::Executor as _;
use sea_orm_migration::sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm_migration::sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

/// Opens the one connection.
///
/// On SQLite foreign keys are off, because a table is rebuilt by dropping it, which would empty its children; they
/// cannot be turned off inside a transaction. On MariaDB strict mode is forced, whatever the server says: without
/// it a NULL under NOT NULL silently becomes an empty text.
pub(crate) async fn open(url: &str, create: bool) -> Result<DatabaseConnection, DbErr> {
    let url =
        url.strip_prefix("mariadb:").map_or_else(|| url.to_owned(), |it| format!("mysql:{it}"));
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(1)
        .min_connections(1)
        .connect_timeout(Duration::from_secs(15))
        .acquire_timeout(Duration::from_secs(15))
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        // A power cut may undo the last steps, never tear one, and the next start does them again; so a sync per step
        // would only make a first start slow. The log is folded in, synced, when the connection closes.
        sqlite
            .create_if_missing(create)
            .foreign_keys(false)
            .busy_timeout(Duration::from_secs(30))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
    });
    options.map_sqlx_mysql_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move {
                let strict = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
                connection.execute(strict).await.map(drop)
            })
        })
    });
    Database::connect(options).await
}
