//! Steps that were cut off in the middle, and several processes at once.

use anyhow::ensure;
use hub_testkit::database::DatabaseKind;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS, with};
use crate::on_each_database;

on_each_database!(two_at_once_both_come_up);

async fn two_at_once_both_come_up(catalogue: Catalogue) -> anyhow::Result<()> {
    let url = catalogue.url();
    let (one, other) = tokio::join!(hub_migration::up(url), hub_migration::up(url));
    one?;
    other?;
    ensure!(hub_migration::status(url).await?.iter().all(|step| step.applied));
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 0);
    Ok(())
}

/// MariaDB commits each statement of a step by itself, so the record may be missing for what was done.
#[tokio::test]
async fn mariadb_runs_an_interrupted_step_again() -> anyhow::Result<()> {
    with(DatabaseKind::MariaDb, |catalogue| async move {
        catalogue.at_first_step().await?;
        catalogue.run(FIRST_ROWS).await?;
        hub_migration::up(catalogue.url()).await?;
        for forgotten in [
            // Everything was done, nothing recorded.
            vec!["DELETE FROM seaql_migrations WHERE version > 'm20250901_090000_zzz'"],
            // Cut between the statements of a step.
            vec![
                "DROP INDEX idx_backup_jobs_disk ON backup_jobs",
                "DROP INDEX uq_vm_disks_ordinal ON vm_disks",
                "UPDATE vm_disks SET ordinal = 0",
                "ALTER TABLE backup_jobs DROP COLUMN stored_root",
                "DROP TABLE verifications",
                "DELETE FROM seaql_migrations WHERE version > 'm20250901_090000_zzz'",
            ],
        ] {
            // A foreign key needs some index, so the one that is dropped is replaced first.
            if forgotten.len() > 1 {
                catalogue.run(&["CREATE INDEX left_over ON backup_jobs (vm_disk_id)"]).await?;
            }
            catalogue.run(&forgotten).await?;
            hub_migration::up(catalogue.url()).await?;
            ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks WHERE ordinal = 1").await? == 1);
            ensure!(catalogue.count("SELECT COUNT(stored_root) FROM backup_jobs").await? == 0);
            ensure!(catalogue.count("SELECT COUNT(*) FROM verifications").await? == 0);
        }
        Ok(())
    })
    .await
}

/// The way down is cut between the archive and the change of the column.
#[tokio::test]
async fn mariadb_runs_an_interrupted_way_down_again() -> anyhow::Result<()> {
    with(DatabaseKind::MariaDb, |catalogue| async move {
        catalogue.at_first_step().await?;
        catalogue.run(FIRST_ROWS).await?;
        hub_migration::up(catalogue.url()).await?;
        catalogue.run(&["UPDATE vm_disks SET job_id = NULL WHERE job_id = 'job-a'"]).await?;
        hub_migration::down(catalogue.url(), Some(AFTER_FIRST - 1), false).await?;
        let first = "SELECT MIN(id) FROM vm_disks";
        let archived = catalogue.count(first).await?;
        let half = "CREATE TABLE vm_disks_archive_m20251006 AS SELECT * FROM vm_disks WHERE job_id IS NULL LIMIT 1";
        catalogue.run(&[half]).await?;
        hub_migration::down(catalogue.url(), Some(1), true).await?;
        ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 1);
        ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks_archive_m20251006").await? == 2);
        hub_migration::up(catalogue.url()).await?;
        ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 3);
        ensure!(catalogue.count(first).await? == archived);
        Ok(())
    })
    .await
}
