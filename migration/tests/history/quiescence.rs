//! Guests at rest: nobody knows it of older backups, and what is known is not lost without a word.

use anyhow::ensure;
use hub_migration::MigrateError;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS};
use crate::on_each_database;

on_each_database!(of_older_jobs_nobody_knows, what_is_known_is_counted_before_it_is_lost);

/// The steps from the one that adds quiescence on.
const BEFORE_QUIESCENCE: u32 = AFTER_FIRST - 14;

async fn filled(catalogue: &Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    Ok(hub_migration::up(catalogue.url()).await?)
}

async fn of_older_jobs_nobody_knows(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    let unknown = "SELECT COUNT(*) FROM backup_jobs WHERE quiesced IS NULL AND quiesce_reason IS NULL \
                   AND reader IS NULL AND reader_reason IS NULL";
    ensure!(catalogue.count(unknown).await? == 2);
    let unknown =
        "SELECT COUNT(*) FROM replication_jobs WHERE quiesce IS NULL AND quiesced IS NULL";
    ensure!(catalogue.count(unknown).await? == 2);
    for (table, column) in [
        ("backup_runs", "quiesce"),
        ("backup_jobs", "quiesced"),
        ("replication_jobs", "quiesce"),
        ("replication_jobs", "quiesced"),
    ] {
        catalogue.refuses(&format!("UPDATE {table} SET {column} = 2")).await?;
    }
    // By which way a disk was read is no loss: nothing depends on it.
    catalogue
        .run(&["UPDATE backup_jobs SET reader = 'vddk', reader_reason = 'it is set up'"])
        .await?;
    let lost = hub_migration::down(catalogue.url(), Some(BEFORE_QUIESCENCE), false).await?;
    ensure!(lost.is_empty(), "{lost:?}");
    for (table, column) in [("backup_jobs", "reader"), ("replication_job_disks", "reader_reason")] {
        catalogue.refuses(&format!("SELECT {column} FROM {table}")).await?;
    }
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_jobs WHERE reader IS NULL").await? == 2);
    Ok(())
}

async fn what_is_known_is_counted_before_it_is_lost(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue
        .run(&[
            "UPDATE backup_jobs SET quiesced = 0, quiesce_reason = 'no tools' WHERE id = 'full'",
            "UPDATE backup_runs SET quiesce = 1",
            "UPDATE replication_jobs SET quiesced = 1 WHERE id = 'job-a'",
            "UPDATE replication_jobs SET quiesce = 0 WHERE id = 'job-b'",
        ])
        .await?;
    let refused = hub_migration::down(catalogue.url(), Some(BEFORE_QUIESCENCE), false).await;
    let Err(MigrateError::Lossy { losses }) = refused else {
        anyhow::bail!("down was not refused: {refused:?}");
    };
    for expected in ["1 backups lose", "1 backup runs lose", "2 replications lose"] {
        ensure!(losses.contains(expected), "{losses}");
    }
    hub_migration::down(catalogue.url(), Some(BEFORE_QUIESCENCE), true).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_jobs").await? == 2);
    Ok(hub_migration::up(catalogue.url()).await?)
}
