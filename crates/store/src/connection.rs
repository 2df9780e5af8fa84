//! How the catalogue's database is opened: pools, pragmas and session settings.

use std::time::Duration;

use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

/// Where the catalogue is and what opens its secrets.
pub struct StoreOptions {
    pub(crate) url: String,
    pub(crate) secret_key: [u8; 32],
    pub(crate) connections: u32,
}

impl StoreOptions {
    /// A database by its URL (`sqlite:`, `mysql:`, `mariadb:`, `postgres:`) and the key that seals secrets in it.
    pub fn new(url: impl Into<String>, secret_key: [u8; 32]) -> Self {
        Self { url: url.into(), secret_key, connections: 16 }
    }

    /// At most this many connections to a server; SQLite has its own numbers.
    #[must_use]
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// The URL in the spelling of the driver, which knows MariaDB by its older name.
    fn driver_url(&self) -> String {
        match self.url.strip_prefix("mariadb:") {
            Some(rest) => format!("mysql:{rest}"),
            None => self.url.clone(),
        }
    }
}

/// Why the catalogue cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the catalogue's database")]
pub struct OpenError(#[from] DbErr);

/// Where units of work run, and where views read.
pub(crate) struct Pools {
    pub(crate) write: DatabaseConnection,
    pub(crate) read: DatabaseConnection,
}

/// Connects; on SQLite the file must exist already, since only a migrated one is of use.
pub(crate) async fn open(options: &StoreOptions) -> Result<Pools, DbErr> {
    if options.is_sqlite() {
        let write = Database::connect(sqlite(options, 1, false)).await?;
        let read = Database::connect(sqlite(options, READERS, true)).await?;
        return Ok(Pools { write, read });
    }
    let pool = Database::connect(server(options)).await?;
    Ok(Pools { write: pool.clone(), read: pool })
}

/// Readers beside the one writer of SQLite.
const READERS: u32 = 4;

/// A connection to a server that was in use this short a time ago is taken to be alive: a question before each
/// statement is a second journey to the server, and what breaks in this moment could break behind the answer as well.
const FRESH: Duration = Duration::from_secs(1);

/// Longest wait for a connection, or for a row or file that another unit holds.
const PATIENCE: Duration = Duration::from_secs(15);

/// One connection writes, and its units begin with the file's write lock: a unit that read first and wrote later
/// would fail at once whenever another one had committed in between, and no timeout would help it.
///
/// `synchronous` stays FULL, since a restore point is announced when its row is durable (promise P1).
fn sqlite(options: &StoreOptions, connections: u32, read_only: bool) -> ConnectOptions {
    let mut connect = ConnectOptions::new(options.driver_url());
    connect
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false);
    connect.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .synchronous(SqliteSynchronous::Full)
            .row_buffer_size(1000);
        if read_only {
            sqlite.pragma("query_only", "ON")
        } else {
            sqlite.journal_mode(SqliteJournalMode::Wal)
        }
    });
    connect
}

/// Strict mode and isolation are set per session, whatever the server's own defaults are.
fn server(options: &StoreOptions) -> ConnectOptions {
    let mut connect = ConnectOptions::new(options.driver_url());
    connect
        .max_connections(options.connections)
        .min_connections(1)
        .connect_timeout(PATIENCE)
        .acquire_timeout(PATIENCE)
        .idle_timeout(Some(Duration::from_secs(600)))
        .test_before_acquire_if_idle_for(FRESH)
        .sqlx_logging(false);
    connect.map_sqlx_mysql_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(MARIADB_SESSION).await?;
                connection.execute(READ_COMMITTED).await.map(drop)
            })
        })
    });
    connect.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move { connection.execute(POSTGRES_SESSION).await.map(drop) })
        })
    });
    connect
}

const MARIADB_SESSION: &str = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
     innodb_lock_wait_timeout = 15";

const READ_COMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

const POSTGRES_SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET lock_timeout = '15s'";

#[cfg(test)]
mod tests {
    use hub_testkit::database::{DatabaseKind, TestDatabase};
    use sea_orm::{ConnectionTrait as _, Statement};

    use super::*;

    /// Promises P1 and P3: with a log that is written ahead, only FULL syncs it at each commit; what is owed has to be on
    /// the disk before its copy is ordered.
    #[tokio::test]
    async fn p3_a_commit_to_sqlite_is_on_the_disk_when_it_is_answered() {
        let database = TestDatabase::create(DatabaseKind::Sqlite).await.unwrap().unwrap();
        database.execute("CREATE TABLE one (number INTEGER)").await.unwrap();
        let pools = open(&StoreOptions::new(&database.url, [7; 32])).await.unwrap();
        let ask = async |pragma: &str| {
            let statement = Statement::from_string(pools.write.get_database_backend(), pragma);
            pools.write.query_one_raw(statement).await.unwrap().unwrap()
        };
        let synchronous = ask("PRAGMA synchronous").await.try_get_by_index::<i64>(0).unwrap();
        assert_eq!(synchronous, 2, "FULL");
        let journal = ask("PRAGMA journal_mode").await.try_get_by_index::<String>(0).unwrap();
        assert_eq!(journal, "wal");
    }
}
