//! One row that cannot be read hides no other of its list, on any database.

use anyhow::{Context as _, ensure};
use hub_domain::ids::{BackupRunId, RestoreJobId, VerificationId};
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_ports::store::{BackupFilter, Row, Unreadable};
use hub_ports::{Store, StoreError};
use hub_store::{SeaStore, Secrets, StoreOptions};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_testkit::fixtures;
use hub_testkit::store_contract::samples::{
    BackedUp, at, back_up, replicate, restore, verification,
};

use crate::databases::opened;

const ALL: [DatabaseKind; 3] =
    [DatabaseKind::Sqlite, DatabaseKind::MariaDb, DatabaseKind::Postgres];

/// Two of everything that is listed.
struct Twice {
    store: SeaStore,
    database: TestDatabase,
    one: BackedUp,
    other: BackedUp,
}

async fn twice(kind: DatabaseKind) -> anyhow::Result<Option<Twice>> {
    let Some((store, database)) = opened(kind).await? else { return Ok(None) };
    let (one, other) = (back_up(&store, 1).await?, back_up(&store, 2).await?);
    for (number, of) in [(11, &one), (12, &other)] {
        replicate(&store, number, of.vm.id).await?;
        let (mut restore, verification) =
            (restore(number, of.jobs[0].id), verification(number, of.jobs[0].id));
        restore.file_name = format!("{number}.raw");
        let mut work = store.begin().await?;
        work.insert_restore(&restore).await?;
        work.insert_verification(&verification).await?;
        work.insert_credential(&fixtures::credential(number, &format!("login-{number}"))).await?;
        work.insert_vma_node(&fixtures::vma_node(number, &format!("vma-{number}"))).await?;
        work.owe(&owed(of)).await?;
        let chain = hub_domain::chain::BackupChain {
            key: of.jobs[0].chain_key(),
            full: of.jobs[0].id,
            latest: of.jobs[0].id,
            count: 1,
            stored_bytes: 1,
        };
        work.put_chain(&chain).await?;
        work.commit().await?;
    }
    Ok(Some(Twice { store, database, one, other }))
}

fn owed(of: &BackedUp) -> OwedCleanup {
    OwedCleanup {
        copy: format!("{}.1", of.run.id),
        job: OwedBy::Backup(of.run.id),
        vm: of.vm.id,
        vm_name: "vm".to_owned(),
        vmware_vm_id: "vm-1".to_owned(),
        source: "vc-1".to_owned(),
        vma_node: fixtures::vma_node(11, "vma-11").id,
        credential: None,
        since: at(1),
        ordered_at: at(1),
        tries: 0,
        tried_at: None,
        fault: None,
    }
}

/// The one row of a list that cannot be read, beside so many that can.
fn only<T>(rows: Vec<Row<T>>, readable: usize) -> anyhow::Result<Unreadable> {
    let (read, mut unreadable): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
    ensure!(read.len() == readable, "{} of {readable} rows are listed", read.len());
    ensure!(unreadable.len() == 1, "{} rows cannot be read", unreadable.len());
    unreadable.pop().and_then(Result::err).context("none")
}

fn says(row: &Unreadable, table: &str, id: impl ToString, problem: &str) -> anyhow::Result<()> {
    let right = row.table == table && row.id == id.to_string() && row.problem.contains(problem);
    ensure!(right, "{row:?}");
    Ok(())
}

#[tokio::test]
async fn vms_and_disks_are_listed_beside_one_that_cannot_be_read() -> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, one, other }) = twice(kind).await? else { continue };
        let (vm, kept) = (one.vm.id, other.vm.id);
        let garble = format!(
            "UPDATE vm_replication_contexts SET conditions = '{{' WHERE context_id = '{vm}'"
        );
        database.execute(&garble).await?;
        let mut view = store.view().await?;
        let row = only(view.vms_page(None, 10).await?, 1)?;
        says(&row, "vm_replication_contexts", vm, "conditions")?;
        // A page that ends with it goes on behind it.
        ensure!(view.vms_page(None, 1).await?.len() == 1);
        let next = view.vms_page(Some(&row.id), 1).await?;
        ensure!(next.iter().flatten().map(|vm| vm.id).eq([kept]), "{kind:?}");
        let seen = [one.vm.facts.clone(), other.vm.facts.clone()];
        says(
            &only(view.vms_resembling(&seen).await?, 1)?,
            "vm_replication_contexts",
            vm,
            "conditions",
        )?;
        ensure!(matches!(view.vm(vm).await, Err(StoreError::Corrupt(_))));
        ensure!(view.vm(kept).await?.is_some());
        ensure!(store.unreadable() == 1, "counted once, however often it is met");

        let garble = "UPDATE vm_disks SET capacity_bytes = 513 WHERE ordinal = 1 AND vm_context_id";
        database.execute(&format!("{garble} = '{kept}'")).await?;
        let row = only(view.disks_of_page(kept, kept).await?, 1)?;
        ensure!(row.of == Some(kept.to_string()) && row.problem.contains("capacity_bytes"));
        ensure!(row.id.parse::<i64>().is_ok(), "{row:?}");
        // Whoever backs the VM up must not take the others for all.
        ensure!(matches!(view.disks_of(&[kept]).await, Err(StoreError::Corrupt(_))));
        ensure!(store.unreadable() == 2);

        database.execute("UPDATE vm_replication_contexts SET conditions = NULL").await?;
        database.execute("UPDATE vm_disks SET capacity_bytes = 512").await?;
        ensure!(view.vms_page(None, 10).await?.iter().all(Result::is_ok));
        ensure!(view.disks_of_page(vm, kept).await?.iter().all(Result::is_ok));
        ensure!(store.unreadable() == 0, "what is mended counts no more");
        store.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn jobs_are_listed_beside_one_that_cannot_be_read() -> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, one, .. }) = twice(kind).await? else { continue };
        let job = &one.jobs[0];
        let replication = "00000000-0000-0000-0000-00000000000b";
        let (restore, verification): (RestoreJobId, VerificationId) =
            (replication.parse()?, replication.parse()?);
        for garble in [
            format!(
                "UPDATE backup_jobs SET policy_id = 'x', deleting_since = created_at WHERE id = '{}'",
                job.id
            ),
            format!(
                "UPDATE replication_job_disks SET disk_key = '' WHERE ordinal = 0 AND job_id = '{replication}'"
            ),
            format!("UPDATE restore_jobs SET bytes_total = -1 WHERE id = '{restore}'"),
            format!("UPDATE verifications SET verdicts = '{{' WHERE id = '{verification}'"),
            format!(
                "UPDATE backup_chains SET stored_bytes = -1 WHERE vm_context_id = '{}'",
                one.vm.id
            ),
            "UPDATE owed_cleanups SET tries = -1 WHERE vm_context_id = '".to_owned()
                + &one.vm.id.to_string()
                + "'",
        ] {
            database.execute(&garble).await.with_context(|| format!("{kind:?} {garble}"))?;
        }
        let mut view = store.view().await?;
        let any = BackupFilter::default();
        let row = only(view.backups_page(&any, None, 10).await?, 3)?;
        says(&row, "backup_jobs", job.id, "policy_id = x")?;
        ensure!(view.backups_page(&any, Some(&row.id), 10).await?.len() == 3);
        says(
            &only(view.backups_of_run(one.run.id).await?, 1)?,
            "backup_jobs",
            job.id,
            "policy_id",
        )?;
        says(&only(view.deleting_backups().await?, 0)?, "backup_jobs", job.id, "policy_id")?;
        // Whoever deletes its parent has to know that it is there.
        ensure!(view.backups_of_chain(job.chain_key()).await.is_err());

        let row = only(view.replications_page(None, None, 10).await?, 1)?;
        says(&row, "replication_jobs", replication, "replication_job_disks")?;
        says(
            &only(view.unfinished_replications(None).await?, 1)?,
            "replication_jobs",
            replication,
            "",
        )?;
        let row = only(view.restores_page(None, 10).await?, 1)?;
        says(&row, "restore_jobs", restore, "bytes_total = -1")?;
        ensure!(row.of == Some(job.id.to_string()));
        says(&only(view.unfinished_restores().await?, 1)?, "restore_jobs", restore, "")?;
        let row = only(view.verifications_page(None, 10).await?, 1)?;
        says(&row, "verifications", verification, "verdicts")?;
        says(&only(view.unfinished_verifications().await?, 1)?, "verifications", verification, "")?;
        let chain = format!("{}/0/{}", one.vm.id, one.repository.id);
        says(
            &only(view.chains_of_vm(one.vm.id).await?, 0)?,
            "backup_chains",
            chain,
            "stored_bytes",
        )?;
        let copy = format!("{}.1", one.run.id);
        says(&only(view.owed_cleanups(10).await?, 1)?, "owed_cleanups", copy, "tries = -1")?;
        ensure!(store.unreadable() == 6, "{}", store.unreadable());
        store.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_unfinished_job_that_cannot_be_read_hides_no_other() -> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, one, .. }) = twice(kind).await? else { continue };
        database.execute("UPDATE backup_jobs SET status = 'queued', started_at = NULL, finished_at = NULL, error_code = NULL").await?;
        let id = one.jobs[1].id;
        database
            .execute(&format!("UPDATE backup_jobs SET policy_id = 'x' WHERE id = '{id}'"))
            .await?;
        let mut view = store.view().await?;
        says(&only(view.unfinished_backups(None).await?, 3)?, "backup_jobs", id, "policy_id")?;
        says(&only(view.unfinished_backups(Some(one.vm.id)).await?, 1)?, "backup_jobs", id, "")?;
        store.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_hub_was_set_up_with_is_listed_beside_a_row_that_cannot_be_read()
-> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, one, .. }) = twice(kind).await? else { continue };
        ensure!(store.secrets().await? == Secrets { opened: 4, refused: 0 });
        let id = "00000000-0000-0000-0000-00000000000b";
        for garble in [
            format!(
                "UPDATE backup_repositories SET compression_level = 77 WHERE id = '{}'",
                one.repository.id
            ),
            format!(
                "UPDATE vmware_credentials SET password_encrypted = 'rubbish' WHERE id = '{id}'"
            ),
            format!("UPDATE vma_nodes SET token_encrypted = 'v1:00' WHERE id = '{id}'"),
        ] {
            database.execute(&garble).await.with_context(|| format!("{kind:?} {garble}"))?;
        }
        let mut view = store.view().await?;
        let row = only(view.repositories().await?, 1)?;
        says(&row, "backup_repositories", one.repository.id, "")?;
        says(&only(view.credentials().await?, 1)?, "vmware_credentials", id, "does not open")?;
        says(&only(view.vma_nodes().await?, 1)?, "vma_nodes", id, "does not open")?;
        ensure!(
            store.secrets().await? == Secrets { opened: 2, refused: 0 },
            "rubbish is not sealed"
        );
        let other = SeaStore::open(StoreOptions::new(&database.url, [8; 32])).await?;
        ensure!(other.secrets().await? == Secrets { opened: 0, refused: 2 }, "another key");
        other.close().await;
        store.close().await;
    }
    Ok(())
}

/// What a driver itself cannot read: each database lets other things into a column than its driver takes out of it.
#[tokio::test]
async fn values_that_a_driver_refuses_stay_in_their_row() -> anyhow::Result<()> {
    for (kind, garbles) in [
        (
            DatabaseKind::Sqlite,
            &[
                "created_at = 'rubbish'",
                "cpu_count = 'many'",
                "cpu_count = 1.5",
                "vm_path = x'ff00'",
                "vm_path = CAST(x'ff' AS TEXT)",
            ][..],
        ),
        (DatabaseKind::MariaDb, &["created_at = '0000-00-00 00:00:00'"]),
        (DatabaseKind::Postgres, &["created_at = 'infinity'", "created_at = '290000-01-01'"]),
    ] {
        let Some(Twice { store, database, one, .. }) = twice(kind).await? else { continue };
        let id = one.vm.id;
        for garble in garbles {
            let garble =
                format!("UPDATE vm_replication_contexts SET {garble} WHERE context_id = '{id}'");
            database.execute(&garble).await.with_context(|| garble.clone())?;
            let page = store.view().await?.vms_page(None, 10).await.context(garble.clone())?;
            says(&only(page, 1).context(garble.clone())?, "vm_replication_contexts", id, "")?;
            let alone = store.view().await?.vm(id).await;
            ensure!(matches!(alone, Err(StoreError::Corrupt(_))), "{garble}: {alone:?}");
            let mend = "UPDATE vm_replication_contexts SET created_at = updated_at, cpu_count = NULL, vm_path = ''";
            database.execute(mend).await?;
        }
        store.close().await;
    }
    Ok(())
}

/// An id that is none ends a page like any other.
#[tokio::test]
async fn a_row_with_a_garbled_id_is_gone_past() -> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, .. }) = twice(kind).await? else { continue };
        let id: BackupRunId = "00000000-0000-0000-0000-00000000000b".parse()?;
        database
            .execute(&format!("UPDATE restore_jobs SET id = 'garbled' WHERE id = '{id}'"))
            .await?;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.view().await?.restores_page(after.as_deref(), 1).await?;
            let Some(row) = page.into_iter().next() else { break };
            after = Some(row.map_or_else(|row| row.id, |job| job.id.to_string()));
            found.extend(after.clone());
        }
        ensure!(found.len() == 2 && found.contains(&"garbled".to_owned()), "{kind:?} {found:?}");
        store.close().await;
    }
    Ok(())
}

/// Whoever asks for a page may say anything, and a key may hold what a database itself cannot be told.
#[tokio::test]
async fn a_page_behind_a_key_that_no_row_can_have_is_a_page() -> anyhow::Result<()> {
    for kind in ALL {
        let Some(Twice { store, database, .. }) = twice(kind).await? else { continue };
        let mut view = store.view().await?;
        let (first, last) = (Some("0\0x"), Some("\0f\0"));
        ensure!(view.vms_page(first, 10).await.with_context(|| format!("{kind:?}"))?.len() == 2);
        ensure!(view.backups_page(&BackupFilter::default(), first, 10).await?.len() == 4);
        ensure!(view.replications_page(None, first, 10).await?.len() == 2);
        ensure!(view.restores_page(first, 10).await?.len() == 2);
        ensure!(view.verifications_page(last, 10).await?.len() == 2);
        store.close().await;
        drop(database);
    }
    Ok(())
}
