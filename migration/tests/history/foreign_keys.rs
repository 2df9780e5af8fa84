//! What the newest schema allows, refuses and takes along, with rows in place.

use anyhow::ensure;

use crate::catalogue::{Catalogue, FIRST_ROWS, discovered};
use crate::on_each_database;

on_each_database!(
    trap_c11_deleting_a_job_keeps_the_disks,
    trap_c10_deleting_a_vm_keeps_its_backups,
    duplicates_are_refused,
    what_is_in_use_cannot_be_deleted,
    unknown_words_are_refused,
);

async fn filled(catalogue: &Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    Ok(hub_migration::up(catalogue.url()).await?)
}

async fn trap_c11_deleting_a_job_keeps_the_disks(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    let ids = "SELECT MIN(id) * 1000 + MAX(id) FROM vm_disks WHERE vm_context_id = 'vm-a'";
    let before = catalogue.count(ids).await?;
    catalogue.run(&["DELETE FROM replication_jobs WHERE id = 'job-a'"]).await?;
    let unlinked = "SELECT COUNT(*) FROM vm_disks WHERE vm_context_id = 'vm-a' AND job_id IS NULL";
    ensure!(catalogue.count(unlinked).await? == 2);
    ensure!(catalogue.count(ids).await? == before, "the same rows");
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks WHERE job_id = 'job-b'").await? == 1);
    Ok(())
}

async fn trap_c10_deleting_a_vm_keeps_its_backups(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue
        .run(&[
            "UPDATE backup_jobs SET vm_disk_id = (SELECT id FROM vm_disks WHERE vm_context_id = 'vm-a' AND disk_id = 'disk-2000')",
            "INSERT INTO backup_chains (vm_context_id, disk_id, repository_id, full_backup_id, latest_backup_id, backup_count, stored_bytes) \
             VALUES ('vm-a', 0, 'repo', 'full', 'increment', 2, 4096)",
            "INSERT INTO replication_job_disks (job_id, ordinal, vm_disk_id, disk_key, bytes_total, bytes_done, bytes_read, bytes_sent) \
             SELECT 'job-a', 0, id, disk_id, 0, 0, 0, 0 FROM vm_disks WHERE vm_context_id = 'vm-a' AND disk_id = 'disk-2000'",
            "DELETE FROM vm_replication_contexts WHERE context_id = 'vm-a'",
        ])
        .await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_disks").await? == 1, "its disks go");
    ensure!(catalogue.count("SELECT COUNT(*) FROM replication_jobs").await? == 1, "its jobs go");
    ensure!(catalogue.count("SELECT COUNT(*) FROM replication_job_disks").await? == 0);
    let kept =
        "SELECT COUNT(*) FROM backup_jobs WHERE vm_context_id = 'vm-a' AND vm_disk_id IS NULL";
    ensure!(catalogue.count(kept).await? == 2, "its points stay, with the id of the VM");
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_chains").await? == 1);
    ensure!(catalogue.count("SELECT COUNT(*) FROM backup_runs").await? == 1);
    Ok(())
}

async fn duplicates_are_refused(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    let same_source = FIRST_ROWS[0].replace("'vm-a'", "'vm-c'").replace("'vm-b'", "'vm-d'");
    catalogue.refuses(&same_source).await?;
    let elsewhere = same_source.replace("'vc'", "'other'");
    catalogue.run(&[&elsewhere]).await?;
    catalogue.refuses(&discovered("vm-a", "disk-2000", 9)).await?;
    catalogue.refuses(&discovered("vm-a", "disk-9", 0)).await?;
    // Ids of a hypervisor differ in case only.
    catalogue.run(&[&discovered("vm-a", "DISK-2000", 2)]).await?;
    catalogue.refuses(&discovered("vm-unknown", "disk-2000", 0)).await?;
    catalogue.refuses(FIRST_ROWS[3]).await?;
    let chain = "INSERT INTO backup_chains (vm_context_id, disk_id, repository_id, full_backup_id, latest_backup_id, \
                 backup_count, stored_bytes) VALUES ('vm-a', 0, 'repo', 'full', 'full', 1, 4096)";
    catalogue.run(&[chain]).await?;
    catalogue.refuses(chain).await
}

async fn what_is_in_use_cannot_be_deleted(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue
        .run(&[
            "INSERT INTO vmware_credentials (id, name, vcenter_host, username, password_encrypted, created_at, updated_at) \
             VALUES ('cred', 'c', 'vc', 'u', 'x', '2026-01-02 03:04:05', '2026-01-02 03:04:05')",
            "INSERT INTO vma_nodes (id, name, url, token_encrypted, source_kind, created_at) \
             VALUES ('node', 'n', 'http://vma', 'x', 'folder', '2026-01-02 03:04:05')",
            "UPDATE vm_replication_contexts SET credential_id = 'cred', vma_node_id = 'node' WHERE context_id = 'vm-a'",
        ])
        .await?;
    for statement in [
        "DELETE FROM vmware_credentials",
        "DELETE FROM vma_nodes",
        "DELETE FROM backup_repositories",
        "DELETE FROM backup_jobs WHERE id = 'full'",
        "DELETE FROM backup_runs",
    ] {
        catalogue.refuses(statement).await?;
    }
    catalogue
        .run(&[
            "DELETE FROM backup_jobs WHERE id = 'increment'",
            "DELETE FROM backup_jobs WHERE id = 'full'",
        ])
        .await
}

async fn unknown_words_are_refused(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    for statement in [
        "UPDATE vm_replication_contexts SET current_status = 'lost'",
        "UPDATE replication_jobs SET status = 'done'",
        "UPDATE backup_jobs SET backup_type = 'differential'",
        "UPDATE vm_disks SET presence = 'gone'",
        "UPDATE vm_disks SET capacity_bytes = 0",
    ] {
        catalogue.refuses(statement).await?;
    }
    Ok(())
}
