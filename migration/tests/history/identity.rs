//! VMs and disks by the ids that they keep: what fits goes up and down, what the older schema cannot tell apart is counted.

use anyhow::ensure;
use hub_migration::MigrateError;

use crate::catalogue::{AFTER_FIRST, Catalogue, FIRST_ROWS, discovered};
use crate::on_each_database;

on_each_database!(
    trap_u15_the_keys_follow_what_is_known,
    what_the_older_schema_cannot_tell_apart_is_counted_first,
);

/// The steps from the one that adds the ids of VMs on.
const BEFORE_IDENTITY: u32 = AFTER_FIRST - 9;

async fn filled(catalogue: &Catalogue) -> anyhow::Result<()> {
    catalogue.at_first_step().await?;
    catalogue.run(FIRST_ROWS).await?;
    Ok(hub_migration::up(catalogue.url()).await?)
}

/// A row like that of `vm-a`, with another id.
fn again(id: &str) -> String {
    let columns = "vm_name, vmware_vm_id, vm_path, vcenter_host, datacenter, current_status, created_at, updated_at";
    format!(
        "INSERT INTO vm_replication_contexts (context_id, {columns}) SELECT '{id}', {columns} \
         FROM vm_replication_contexts WHERE context_id = 'vm-a'"
    )
}

async fn trap_u15_the_keys_follow_what_is_known(catalogue: Catalogue) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue.refuses(&again("vm-z")).await?;
    let named = "UPDATE vm_replication_contexts SET vcenter_uuid = 'vc-1', instance_uuid = '5015' WHERE context_id = 'vm-a'";
    catalogue.run(&[named, &again("vm-z")]).await?;
    catalogue.refuses(&named.replace("'vm-a'", "'vm-z'")).await?;
    let keys = "SELECT COUNT(*) FROM vm_replication_contexts WHERE source_key = 'vc-1' AND vm_key = '5015'";
    ensure!(catalogue.count(keys).await? == 1);
    // A retired disk gives its key free; two present ones never share one.
    catalogue.refuses(&discovered("vm-a", "disk-2000", 7)).await?;
    catalogue
        .run(&[
            "UPDATE vm_disks SET presence = 'retired' WHERE vm_context_id = 'vm-a' AND disk_id = 'disk-2000'",
            &discovered("vm-a", "disk-2000", 7),
        ])
        .await?;
    catalogue.refuses("UPDATE vm_disks SET presence = 'present' WHERE presence = 'retired'").await
}

async fn what_the_older_schema_cannot_tell_apart_is_counted_first(
    catalogue: Catalogue,
) -> anyhow::Result<()> {
    filled(&catalogue).await?;
    catalogue
        .run(&[
            "UPDATE vm_replication_contexts SET vcenter_uuid = 'vc-1', instance_uuid = '5015' WHERE context_id = 'vm-b'",
            &again("vm-z"),
        ])
        .await
        .err()
        .map_or_else(|| Err(anyhow::anyhow!("two of one host and id went in")), |_| Ok(()))?;
    catalogue
        .run(&[
            "UPDATE vm_replication_contexts SET vcenter_uuid = 'vc-1', instance_uuid = '5016' WHERE context_id = 'vm-a'",
            &again("vm-z"),
            "UPDATE vm_disks SET presence = 'retired' WHERE vm_context_id = 'vm-b'",
            &discovered("vm-b", "disk-2000", 7),
        ])
        .await?;
    let refused = hub_migration::down(catalogue.url(), Some(BEFORE_IDENTITY), false).await;
    let Err(MigrateError::Lossy { losses }) = refused else {
        anyhow::bail!("down was not refused: {refused:?}");
    };
    for expected in ["1 retired disks whose key", "1 VM contexts that share", "2 VMs lose"] {
        ensure!(losses.contains(expected), "{losses}");
    }
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_replication_contexts").await? == 3);
    hub_migration::down(catalogue.url(), Some(BEFORE_IDENTITY), true).await?;
    ensure!(catalogue.count("SELECT COUNT(*) FROM vm_replication_contexts").await? == 2);
    let kept = "SELECT COUNT(*) FROM vm_disks WHERE vm_context_id = 'vm-b' AND ordinal = 7";
    ensure!(catalogue.count(kept).await? == 1, "the present disk stays");
    hub_migration::up(catalogue.url()).await?;
    ensure!(
        catalogue.count("SELECT COUNT(*) FROM vm_disks WHERE backing_uuid IS NULL").await? == 1
    );
    Ok(())
}
