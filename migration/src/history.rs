//! The way up, the way down, and where a database stands on it.

use std::path::PathBuf;

use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr};
use sea_orm_migration::{MigrationStatus, MigrationTrait, MigratorTrait};

use crate::lock::MigrationLock;
use crate::loss::{self, Loss};
use crate::{connection, steps};

/// Runs every step that the database has not seen; creates a SQLite file that is missing.
///
/// Safe to call from several processes at once, and again after an interruption at any point.
pub async fn up(url: &str) -> Result<(), MigrateError> {
    with_lock(url, async |db| Ok(Migrator::up(db, None).await?)).await
}

/// Takes back the last `steps` steps, or all.
///
/// Everything that the whole way would lose is counted before its first step, and refused with
/// [`MigrateError::Lossy`] unless `allow_data_loss`. Returns what was lost or archived.
pub async fn down(
    url: &str,
    steps: Option<u32>,
    allow_data_loss: bool,
) -> Result<Vec<Loss>, MigrateError> {
    with_lock(url, async |db| {
        let applied = Migrator::get_applied_migrations_read_only(db).await?;
        let wanted =
            steps.map_or(applied.len(), |steps| usize::try_from(steps).unwrap_or(usize::MAX));
        let undone: Vec<&str> = applied.iter().rev().take(wanted).map(|it| it.name()).collect();
        let all = steps::all();
        let risks = all
            .iter()
            .rev()
            .filter(|step| undone.contains(&step.step_name()))
            .flat_map(|step| step.risks());
        let losses = loss::count(db, risks).await?;
        if !losses.is_empty() && !allow_data_loss {
            return Err(MigrateError::Lossy { losses: listed(&losses) });
        }
        Migrator::down(db, steps).await?;
        Ok(losses)
    })
    .await
}

/// Every step, oldest first; changes nothing and takes no lock.
pub async fn status(url: &str) -> Result<Vec<StepStatus>, MigrateError> {
    let db = connection::open(url, false).await?;
    let steps = Migrator::get_migration_with_status_read_only(&db).await?;
    let steps = steps
        .into_iter()
        .map(|step| StepStatus {
            name: step.name().to_owned(),
            applied: step.status() == MigrationStatus::Applied,
        })
        .collect();
    db.close().await?;
    Ok(steps)
}

/// One step and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepStatus {
    /// Its name, which begins with its date.
    pub name: String,
    /// Whether it was run.
    pub applied: bool,
}

/// Why the schema was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The way down would lose rows.
    #[error("going down would lose data: {losses}")]
    Lossy {
        /// How many of what.
        losses: String,
    },
    /// Another process has been migrating for longer than it can take.
    #[error("another process is migrating this database; try again when it has ended")]
    Locked,
    /// The lock beside a SQLite file cannot be taken.
    #[error("cannot lock {}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("the database refused the migration")]
    Database(#[from] DbErr),
}

/// The losses in one sentence.
pub(crate) fn listed(losses: &[Loss]) -> String {
    losses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Runs work on the one connection while the lock is held.
pub(crate) async fn with_lock<T>(
    url: &str,
    work: impl AsyncFnOnce(&DatabaseConnection) -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let db = connection::open(url, true).await?;
    let lock = MigrationLock::take(&db, url).await?;
    let done = work(&db).await;
    // The connection holds the server's lock; closing it is what releases that.
    db.close().await?;
    drop(lock);
    done
}

pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        steps::all().into_iter().map(|step| Box::new(step) as Box<dyn MigrationTrait>).collect()
    }
}
