//! Up, down and up again keep every row, or refuse and say how many they would lose.

use anyhow::ensure;
use hub_migration::MigrateError;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS, discovered};
use crate::on_each_database;

on_each_database!(
    every_row_is_kept_on_the_way_up,
    the_schema_as_it_was_loses_disks_with_their_job,
    rows_that_fit_survive_down_and_up_again,
    trap_c30_down_refuses_and_says_how_many,
    archived_disks_come_back,
    fresh_refuses_to_drop_rows,
    the_empty_way_down_leaves_nothing,
);

async fn every_row_is_kept_on_the_way_up(catalogue: Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    let sum = "SELECT COALESCE(MAX(capacity_bytes), 0) FROM vm_disks WHERE disk_id = 'disk-2000' AND job_id = 'job-a' \
               AND vmdk_path = '[ds] a/a.vmdk' AND size_gb = 102";
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 3);
    ensure!(catalogue.count(sum).await? == 109_521_666_048);
    let names = "SELECT COUNT(*) FROM vm_replication_contexts WHERE vm_name = 'Веб /1, ✓'";
    ensure!(catalogue.count(names).await? == 2, "names with Unicode are whole");
    let of_vm_a = |disk: &str| {
        format!("SELECT COUNT(*) FROM vm_disks WHERE vm_context_id = 'vm-a' AND disk_id = '{disk}'")
    };
    let first = format!("{} AND ordinal = 0", of_vm_a("disk-2000"));
    let second = format!("{} AND ordinal = 1", of_vm_a("disk-2001"));
    ensure!(catalogue.count(&first).await? == 1, "the first disk has ordinal 0");
    ensure!(catalogue.count(&second).await? == 1, "the second disk has ordinal 1");
    let old_backups = "SELECT COUNT(*) FROM backup_jobs WHERE disk_id = 0 AND vm_disk_id IS NULL \
                       AND disk_key = 'unknown' AND capacity_bytes = 109521666048";
    ensure!(catalogue.count(old_backups).await? == 2);
    let parent = "SELECT COUNT(*) FROM backup_jobs WHERE parent_backup_id = 'full'";
    ensure!(catalogue.count(parent).await? == 1);
    catalogue.run(&[&discovered("vm-a", "disk-2002", 2)]).await
}

async fn the_schema_as_it_was_loses_disks_with_their_job(
    catalogue: Catalogue,
) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    catalogue.refuses("UPDATE vm_disks SET job_id = NULL WHERE job_id = 'job-a'").await?;
    catalogue.refuses("SELECT disk_id FROM backup_jobs").await?;
    catalogue.run(&["DELETE FROM replication_jobs WHERE id = 'job-a'"]).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 1);
    Ok(())
}

async fn rows_that_fit_survive_down_and_up_again(catalogue: Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    hub_migration::up(catalogue.url()).await?;
    let lost = hub_migration::down(catalogue.url(), Some(AFTER_FIRST), false).await?;
    ensure!(lost.is_empty(), "{lost:?}");
    catalogue.refuses("UPDATE vm_disks SET job_id = NULL WHERE job_id = 'job-a'").await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 3);
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_jobs").await? == 2);
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks WHERE job_id IS NOT NULL").await? == 3);
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_jobs").await? == 2);
    // The mark of the row numbers survived both rebuilds: a new disk gets a number never used.
    catalogue.run(&["DELETE FROM vm_disks WHERE disk_id = 'disk-2001'"]).await?;
    let highest = catalogue.count("SELECT MAX(id) FROM vm_disks").await?;
    catalogue.run(&[&discovered("vm-a", "disk-2002", 2)]).await?;
    let next = catalogue.count("SELECT MAX(id) FROM vm_disks").await?;
    ensure!(next > highest + 1, "the number of a deleted disk was used again");
    Ok(())
}

async fn trap_c30_down_refuses_and_says_how_many(catalogue: Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    hub_migration::up(catalogue.url()).await?;
    let two = [discovered("vm-a", "disk-2002", 2), discovered("vm-b", "disk-2001", 1)];
    catalogue.run(&[&two[0], &two[1]]).await?;
    let refused = hub_migration::down(catalogue.url(), Some(AFTER_FIRST), false).await;
    let Err(MigrateError::Lossy { losses }) = refused else {
        anyhow::bail!("down was not refused: {refused:?}");
    };
    ensure!(losses.starts_with("2 disks without a replication job"), "{losses}");
    let steps = hub_migration::status(catalogue.url()).await?;
    ensure!(steps.iter().all(|step| step.applied), "a step ran before the refusal");
    // The steps after the lossy one go down without a word.
    let lost = hub_migration::down(catalogue.url(), Some(AFTER_FIRST - 1), false).await?;
    ensure!(lost.is_empty(), "{lost:?}");
    Ok(())
}

async fn archived_disks_come_back(catalogue: Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    hub_migration::up(catalogue.url()).await?;
    let three = [
        discovered("vm-a", "disk-2002", 2),
        discovered("vm-a", "disk-2003", 3),
        discovered("vm-b", "disk-2001", 1),
    ];
    catalogue.run(&[&three[0], &three[1], &three[2]]).await?;
    let id = "SELECT id FROM vm_disks WHERE vm_context_id = 'vm-a' AND disk_id = 'disk-2002'";
    let before = catalogue.count(id).await?;
    let lost = hub_migration::down(catalogue.url(), Some(AFTER_FIRST), true).await?;
    ensure!(lost.len() == 1 && lost[0].rows == 3, "{lost:?}");
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 3);
    // Meanwhile one VM is gone, and another disk was found again by the older release.
    let found_again = discovered("vm-a", "disk-2003", 3)
        .replace("disk_id, ordinal,", "disk_id, job_id,")
        .replace("'disk-2003', 3,", "'disk-2003', 'job-a',");
    catalogue
        .run(&["DELETE FROM vm_replication_contexts WHERE context_id = 'vm-b'", &found_again])
        .await?;
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count(id).await? == before, "the disk has its row number again");
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks WHERE job_id IS NULL").await? == 1);
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 4);
    catalogue.refuses("SELECT COUNT(*) FROM vm_disks_archive_m20251006").await
}

async fn fresh_refuses_to_drop_rows(catalogue: Catalogue) -> anyhow::Result<()> {
    hub_migration::fresh(catalogue.url(), false).await?;
    catalogue
        .run(&[
            "CREATE TABLE of_somebody_else (id INTEGER)",
            FIRST_ROWS[0],
            &discovered("vm-a", "d", 0),
        ])
        .await?;
    let refused = hub_migration::fresh(catalogue.url(), false).await;
    ensure!(matches!(refused, Err(MigrateError::Lossy { .. })), "{refused:?}");
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 1);
    hub_migration::fresh(catalogue.url(), true).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 0);
    ensure!(catalogue.count("SELECT COUNT(*) FROM of_somebody_else").await? == 0);
    Ok(())
}

async fn the_empty_way_down_leaves_nothing(catalogue: Catalogue) -> anyhow::Result<()> {
    hub_migration::up(catalogue.url()).await?;
    hub_migration::down(catalogue.url(), None, false).await?;
    catalogue.refuses("SELECT COUNT(*) FROM vm_disks").await?;
    catalogue.refuses("SELECT COUNT(*) FROM vmware_credentials").await?;
    hub_migration::up(catalogue.url()).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 0);
    Ok(())
}
