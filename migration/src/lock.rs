//! One migration at a time, however many hubs start at once.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sea_orm_migration::sea_orm::DatabaseConnection;
use tokio::time::{Instant, sleep};

use crate::ddl::number;
use crate::dialect::Dialect;
use crate::history::MigrateError;

/// How long others may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// PostgreSQL names advisory locks by numbers; this one is ours within the database.
const POSTGRES_LOCK: i64 = 0x5e4d_e45e;

/// Held until dropped: the server forgets its locks with the one connection, the kernel a file's with the file.
pub(crate) struct MigrationLock {
    _file: Option<File>,
}

impl MigrationLock {
    /// Waits for the lock of this database.
    pub(crate) async fn take(db: &DatabaseConnection, url: &str) -> Result<Self, MigrateError> {
        match Dialect::of(db) {
            Dialect::MariaDb => {
                // The name is the server's, not the database's: two databases must not wait for each other.
                let seconds = PATIENCE.as_secs();
                let query =
                    format!("SELECT GET_LOCK(CONCAT('hub_migrate_', MD5(DATABASE())), {seconds})");
                if number(db, &query).await? != 1 {
                    return Err(MigrateError::Locked);
                }
                Ok(Self { _file: None })
            }
            Dialect::Postgres => {
                let end = Instant::now() + PATIENCE;
                let query = format!(
                    "SELECT CASE WHEN pg_try_advisory_lock({POSTGRES_LOCK}) THEN 1 ELSE 0 END::bigint"
                );
                while number(db, &query).await? != 1 {
                    wait_until(end).await?;
                }
                Ok(Self { _file: None })
            }
            Dialect::Sqlite => Self::take_file(url).await,
        }
    }

    async fn take_file(url: &str) -> Result<Self, MigrateError> {
        let Some(path) = lock_file(url) else { return Ok(Self { _file: None }) };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| MigrateError::LockFile { path: path.clone(), source })?;
        let end = Instant::now() + PATIENCE;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(MigrateError::LockFile { path, source: error.into() });
            }
            wait_until(end).await?;
        }
        Ok(Self { _file: Some(file) })
    }
}

async fn wait_until(end: Instant) -> Result<(), MigrateError> {
    if Instant::now() >= end {
        return Err(MigrateError::Locked);
    }
    sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// The lock file beside a SQLite database; none for one in memory, which nobody else can open.
fn lock_file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split('?').next().unwrap_or(path);
    (!path.is_empty() && !path.contains(":memory:"))
        .then(|| PathBuf::from(format!("{path}.migration-lock")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_lock_lies_beside_the_database() {
        let beside = Some(Path::new("/var/lib/hub/catalogue.db.migration-lock"));
        for url in
            ["sqlite:///var/lib/hub/catalogue.db?mode=rwc", "sqlite:/var/lib/hub/catalogue.db"]
        {
            assert_eq!(lock_file(url).as_deref(), beside, "{url}");
        }
        assert_eq!(lock_file("sqlite::memory:"), None);
    }
}
