//! A fresh database per test: a file for SQLite, a database of its own on the servers named by the environment.
//!
//! `HUB_TEST_MARIADB_URL` and `HUB_TEST_POSTGRES_URL` name accounts that may create databases. Where one is absent,
//! tests skip loudly, unless `HUB_TEST_REQUIRE=1` makes that a failure.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};
use tempfile::TempDir;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file.
    Sqlite,
    /// A MariaDB server.
    MariaDb,
    /// A PostgreSQL server.
    Postgres,
}

/// An empty database that goes away with this value.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its URL, for whoever connects.
    pub url: String,
    /// What it is.
    pub kind: DatabaseKind,
    home: Home,
}

#[derive(Debug)]
enum Home {
    Directory { _directory: TempDir },
    Server { url: String, name: String },
}

impl TestDatabase {
    /// Makes an empty database; `None`, said loudly, when there is no server for it and none is required.
    pub async fn create(kind: DatabaseKind) -> anyhow::Result<Option<Self>> {
        let variable = match kind {
            DatabaseKind::Sqlite => return Self::in_directory().map(Some),
            DatabaseKind::MariaDb => "HUB_TEST_MARIADB_URL",
            DatabaseKind::Postgres => "HUB_TEST_POSTGRES_URL",
        };
        match environment(variable) {
            Some(server) => Self::on_server(kind, server).await.map(Some),
            None if environment("HUB_TEST_REQUIRE").as_deref() == Some("1") => {
                bail!("{variable} is not set, and HUB_TEST_REQUIRE=1 forbids to skip")
            }
            None => {
                skipped(kind, variable);
                Ok(None)
            }
        }
    }

    /// Runs one statement beside whoever else uses the database, as an operator or an older release would.
    pub async fn execute(&self, statement: &str) -> anyhow::Result<()> {
        run_on(&self.url, statement).await
    }

    fn in_directory() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("catalogue.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        Ok(Self {
            url,
            kind: DatabaseKind::Sqlite,
            home: Home::Directory { _directory: directory },
        })
    }

    async fn on_server(kind: DatabaseKind, server: String) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hub_test_{}_{number}", std::process::id());
        let (scheme, rest) = server.split_once("://").context("the server's URL has no scheme")?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let url = format!("{scheme}://{authority}/{name}");
        run_on(&server, &format!("DROP DATABASE IF EXISTS {name}")).await?;
        run_on(&server, &format!("CREATE DATABASE {name}")).await?;
        Ok(Self { url, kind, home: Home::Server { url: server, name } })
    }
}

impl Drop for TestDatabase {
    /// Drops the server's database, with whoever is still connected; a failure only leaves it behind.
    fn drop(&mut self) {
        let Home::Server { url, name } = &self.home else { return };
        let (kind, url, name) = (self.kind, url.clone(), name.clone());
        // A runtime cannot wait inside another one, so the wait has a thread of its own.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(drop_database(kind, &url, &name))
        });
        drop(dropping.join());
    }
}

/// A test that ends inside a transaction still holds locks, since its runtime waits here for us: it is cut off.
async fn drop_database(kind: DatabaseKind, url: &str, name: &str) -> anyhow::Result<()> {
    if kind == DatabaseKind::Postgres {
        return run_on(url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
    let db = connect(url).await?;
    let connected = format!(
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = '{name}'"
    );
    let connected = Statement::from_string(db.get_database_backend(), connected);
    for row in db.query_all_raw(connected).await? {
        let id: i64 = row.try_get_by_index(0)?;
        // Whoever has gone by now needs no cutting off.
        let _ = db.execute_unprepared(&format!("KILL {id}")).await;
    }
    db.execute_unprepared("SET SESSION lock_wait_timeout = 10").await?;
    db.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await?;
    Ok(db.close().await?)
}

async fn connect(url: &str) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url.to_owned());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.context("the test server does not answer")
}

async fn run_on(url: &str, statement: &str) -> anyhow::Result<()> {
    let db = connect(url).await?;
    let done = db.execute_unprepared(statement).await;
    db.close().await?;
    done.map(drop).with_context(|| statement.to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how a test run says where its servers are"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(kind: DatabaseKind, variable: &str) {
    eprintln!("SKIPPED: no {kind:?} to test on; set {variable} or use `cargo xtask test`");
}
