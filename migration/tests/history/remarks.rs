//! What runs say of themselves: those of before say nothing, and what is said is not lost without a word.

use anyhow::ensure;
use hub_migration::MigrateError;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS};
use crate::on_each_database;

on_each_database!(remarks_are_counted_before_they_are_lost);

/// The steps from the one that adds remarks on.
const BEFORE_REMARKS: u32 = AFTER_FIRST - 15;

async fn remarks_are_counted_before_they_are_lost(catalogue: Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    hub_migration::up(catalogue.url()).await?;
    let silent = "SELECT COUNT(*) FROM backup_runs WHERE remarks IS NULL";
    let runs = catalogue.count(silent).await?;
    ensure!(runs > 0);
    catalogue.run(&["UPDATE backup_runs SET remarks = '{}'"]).await?;
    let refused = hub_migration::down(catalogue.url(), Some(BEFORE_REMARKS), false).await;
    let Err(MigrateError::Lossy { losses }) = refused else {
        anyhow::bail!("down was not refused: {refused:?}");
    };
    ensure!(losses.contains("lose which VMA copied them"), "{losses}");
    hub_migration::down(catalogue.url(), Some(BEFORE_REMARKS), true).await?;
    catalogue.refuses("SELECT remarks FROM replication_jobs").await?;
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count(silent).await? == runs);
    Ok(())
}
