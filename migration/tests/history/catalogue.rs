//! A migrated database that a test asks by SQL, and rows to put into it.

use anyhow::{Context as _, ensure};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};

/// Steps after the first one.
pub(crate) const AFTER_FIRST: u32 = 17;

/// A database at some point of the history.
pub(crate) struct Catalogue {
    pub(crate) database: TestDatabase,
}

/// Runs a test on a fresh, empty database.
pub(crate) async fn with<F>(
    kind: DatabaseKind,
    test: impl FnOnce(Catalogue) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    match TestDatabase::create(kind).await? {
        Some(database) => test(Catalogue { database }).await,
        None => Ok(()),
    }
}

impl Catalogue {
    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    /// Connects as the hub would: with foreign keys on.
    pub(crate) async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        let mut options = ConnectOptions::new(self.url().to_owned());
        options.max_connections(1).sqlx_logging(false);
        Ok(Database::connect(options).await?)
    }

    /// Runs statements on a connection of their own.
    pub(crate) async fn run(&self, statements: &[&str]) -> anyhow::Result<()> {
        let db = self.connect().await?;
        for statement in statements {
            db.execute_unprepared(statement).await.with_context(|| (*statement).to_owned())?;
        }
        Ok(db.close().await?)
    }

    /// Checks that the database refuses a statement.
    pub(crate) async fn refuses(&self, statement: &str) -> anyhow::Result<()> {
        let db = self.connect().await?;
        let refused = db.execute_unprepared(statement).await.is_err();
        db.close().await?;
        ensure!(refused, "the database took: {statement}");
        Ok(())
    }

    /// The number that a query answers.
    pub(crate) async fn count(&self, query: &str) -> anyhow::Result<i64> {
        let db = self.connect().await?;
        let statement = Statement::from_string(db.get_database_backend(), query);
        let row = db.query_one_raw(statement).await?.context("no row")?;
        let number = row.try_get_by_index(0)?;
        db.close().await?;
        Ok(number)
    }

    /// All the way up, then back to the schema as it was.
    pub(crate) async fn at_first_step(&self) -> anyhow::Result<()> {
        hub_migration::up(self.url()).await?;
        let lost = hub_migration::down(self.url(), Some(AFTER_FIRST), false).await?;
        ensure!(lost.is_empty(), "an empty catalogue lost {lost:?}");
        Ok(())
    }
}

/// A VM, a job, and two disks with the job, as the first schema wanted them.
pub(crate) const FIRST_ROWS: &[&str] = &[
    "INSERT INTO vm_replication_contexts (context_id, vm_name, vmware_vm_id, vm_path, vcenter_host, datacenter, \
     current_status, created_at, updated_at) VALUES ('vm-a', 'Веб /1, ✓', 'uuid-a', '/DC1/vm/a', 'vc', 'DC1', \
     'discovered', '2026-01-02 03:04:05.123456', '2026-01-02 03:04:05.123456'), ('vm-b', 'Веб /1, ✓', 'UUID-A', \
     '/DC1/vm/b', 'vc', 'DC1', 'discovered', '2026-01-02 03:04:05.123456', '2026-01-02 03:04:05.123456')",
    "INSERT INTO replication_jobs (id, vm_context_id, replication_type, status, created_at) VALUES \
     ('job-a', 'vm-a', 'initial', 'succeeded', '2026-01-02 03:04:05.123456'), \
     ('job-b', 'vm-b', 'initial', 'succeeded', '2026-01-02 03:04:05.123456')",
    "INSERT INTO vm_disks (vm_context_id, job_id, disk_id, label, vmdk_path, datastore, size_gb, capacity_bytes, \
     created_at, updated_at) VALUES \
     ('vm-a', 'job-a', 'disk-2000', 'Hard disk 1', '[ds] a/a.vmdk', 'ds', 102, 109521666048, '2026-01-02 03:04:05', '2026-01-02 03:04:05'), \
     ('vm-b', 'job-b', 'disk-2000', 'Hard disk 1', '[ds] b/b.vmdk', 'ds', 5, 5368709120, '2026-01-02 03:04:05', '2026-01-02 03:04:05'), \
     ('vm-a', 'job-a', 'disk-2001', 'Hard disk 2', '[ds] a/a_1.vmdk', 'ds', 5, 5368709120, '2026-01-02 03:04:05', '2026-01-02 03:04:05')",
    "INSERT INTO backup_repositories (id, name, kind, path, created_at) VALUES ('repo', 'default', 'local', '/r', '2026-01-02 03:04:05')",
    "INSERT INTO backup_runs (id, vm_context_id, vm_name, repository_id, backup_type, tags, created_at) VALUES \
     ('run', 'vm-a', 'a', 'repo', 'full', '[]', '2026-01-02 03:04:05')",
    "INSERT INTO backup_jobs (id, run_id, vm_context_id, vm_name, repository_id, backup_type, status, \
     repository_path, bytes_total, created_at, started_at, finished_at) VALUES \
     ('full', 'run', 'vm-a', 'a', 'repo', 'full', 'succeeded', 'a/full.qcow2', 109521666048, '2026-01-02 03:04:05', \
      '2026-01-02 03:04:05', '2026-01-02 03:04:06')",
    "INSERT INTO backup_jobs (id, run_id, vm_context_id, vm_name, repository_id, backup_type, status, \
     repository_path, parent_backup_id, bytes_total, created_at, started_at, finished_at) VALUES \
     ('increment', 'run', 'vm-a', 'a', 'repo', 'incremental', 'succeeded', 'a/inc.qcow2', 'full', 109521666048, \
      '2026-01-02 03:04:05', '2026-01-02 03:04:05', '2026-01-02 03:04:06')",
];

/// A disk as discovery stores it in the newest schema.
pub(crate) fn discovered(vm: &str, disk: &str, ordinal: u32) -> String {
    format!(
        "INSERT INTO vm_disks (vm_context_id, disk_id, ordinal, label, vmdk_path, datastore, size_gb, capacity_bytes, \
         created_at, updated_at) VALUES ('{vm}', '{disk}', {ordinal}, 'Hard disk', '[ds] x.vmdk', 'ds', 5, 5368709120, \
         '2026-01-02 03:04:05', '2026-01-02 03:04:05')"
    )
}
