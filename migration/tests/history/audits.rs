//! Audits of change tracking: older backups have none, and a mark on a chain is not lost without a word.

use anyhow::ensure;
use hub_migration::MigrateError;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS};
use crate::on_each_database;

on_each_database!(backups_of_before_have_no_audit, a_mark_is_counted_before_it_is_lost);

/// The steps from the one that adds audits on.
const BEFORE_AUDITS: u32 = AFTER_FIRST - 12;

async fn filled(catalogue: &Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    Ok(hub_migration::up(catalogue.url()).await?)
}

async fn backups_of_before_have_no_audit(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    let fresh = "SELECT COUNT(*) FROM backup_jobs WHERE audited_blocks = 0 AND audited_bytes = 0 \
                 AND audit_next = 0 AND suspicion IS NULL";
    ensure!(catalogue.count(fresh).await? == 2);
    ensure!(
        catalogue.count("SELECT COUNT(*) FROM backup_runs WHERE audit_runs IS NOT NULL").await?
            == 0
    );
    catalogue.refuses("UPDATE backup_runs SET audit_runs = 0").await?;
    // Where an audit goes on is no loss: it begins anew.
    catalogue
        .run(&["UPDATE backup_jobs SET audit_next = 109521666048, audited_blocks = 7"])
        .await?;
    let lost = hub_migration::down(catalogue.url(), Some(BEFORE_AUDITS), false).await?;
    ensure!(lost.is_empty(), "{lost:?}");
    catalogue.refuses("SELECT suspicion FROM backup_jobs").await?;
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count(fresh).await? == 2);
    Ok(())
}

async fn a_mark_is_counted_before_it_is_lost(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue
        .run(&[
            "UPDATE backup_jobs SET suspicion = '{}' WHERE id = 'full'",
            "UPDATE backup_runs SET audit_runs = 7",
        ])
        .await?;
    let refused = hub_migration::down(catalogue.url(), Some(BEFORE_AUDITS), false).await;
    let Err(MigrateError::Lossy { losses }) = refused else {
        anyhow::bail!("down was not refused: {refused:?}");
    };
    ensure!(losses.contains("1 backups of suspect chains"), "{losses}");
    ensure!(losses.contains("backup runs lose how closely"), "{losses}");
    hub_migration::down(catalogue.url(), Some(BEFORE_AUDITS), true).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_jobs").await? == 2);
    Ok(hub_migration::up(catalogue.url()).await?)
}
