//! What only a database can get wrong: secrets at rest, rows by hand, strangers' settings, absence.

use anyhow::{Context as _, ensure};
use hub_ports::{Store as _, StoreError};
use hub_store::{SeaStore, StoreOptions};
use hub_testkit::Whole as _;
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_testkit::fixtures;
use hub_testkit::store_contract::samples::{add_vm, back_up};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, Statement};

use crate::databases::opened;

const ALL: [DatabaseKind; 3] =
    [DatabaseKind::Sqlite, DatabaseKind::MariaDb, DatabaseKind::Postgres];

/// Runs one statement beside the catalogue.
async fn by_hand(database: &TestDatabase, statement: &str) -> anyhow::Result<Option<String>> {
    let mut options = ConnectOptions::new(database.url.clone());
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await?;
    let statement = Statement::from_string(db.get_database_backend(), statement);
    let answer = db.query_one_raw(statement).await?;
    let answer = answer.map(|row| row.try_get_by_index(0)).transpose()?;
    db.close().await?;
    Ok(answer)
}

#[tokio::test]
async fn secrets_do_not_lie_in_the_open() -> anyhow::Result<()> {
    for kind in ALL {
        let Some((store, database)) = opened(kind).await? else { continue };
        let mut work = store.begin().await?;
        work.insert_credential(&fixtures::credential(1, "login")).await?;
        work.commit().await?;
        let stored = by_hand(&database, "SELECT password_encrypted FROM vmware_credentials");
        let stored = stored.await?.context("no row")?;
        ensure!(stored.starts_with("v1:") && !stored.contains("a password"), "{stored}");
        let other = SeaStore::open(StoreOptions::new(&database.url, [8; 32])).await?;
        let refused = other.view().await?.credentials().await?.whole();
        ensure!(matches!(refused, Err(StoreError::Corrupt(_))), "another key opens it");
        // A secret that is copied into another row does not open there.
        let mut work = store.begin().await?;
        work.insert_credential(&fixtures::credential(2, "copy")).await?;
        work.commit().await?;
        by_hand(
            &database,
            &format!("UPDATE vmware_credentials SET password_encrypted = '{stored}'"),
        )
        .await?;
        let copied = fixtures::credential(2, "copy").id;
        let refused = store.view().await?.credential(copied).await;
        ensure!(matches!(refused, Err(StoreError::Corrupt(_))), "a moved secret opens");
        other.close().await;
        store.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_makes_no_sense_names_its_column() -> anyhow::Result<()> {
    for kind in ALL {
        let Some((store, database)) = opened(kind).await? else { continue };
        let vm = add_vm(&store, 1).await?;
        by_hand(&database, "UPDATE vm_disks SET capacity_bytes = 513 WHERE ordinal = 0").await?;
        let Err(StoreError::Corrupt(detail)) = store.view().await?.disks_of(&[vm.id]).await else {
            anyhow::bail!("a capacity of 513 bytes was believed");
        };
        ensure!(detail.contains("capacity_bytes"), "{detail}");
        let backed_up = back_up(&store, 2).await?;
        by_hand(&database, "UPDATE backup_jobs SET finished_at = NULL").await?;
        let read = store.view().await?.backup(backed_up.jobs[0].id).await;
        ensure!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        store.close().await;
    }
    Ok(())
}

/// Rows of another program, or put in by hand, say their time as SQL spells it; one of them must not hide a whole list.
#[tokio::test]
async fn times_that_sqlite_spells_itself_are_read() -> anyhow::Result<()> {
    let Some((store, database)) = opened(DatabaseKind::Sqlite).await? else { return Ok(()) };
    let mut vm = add_vm(&store, 1).await?;
    for spelled in ["2026-01-02 03:04:05", "2026-01-02T03:04:05.000", "2026-01-02 04:04:05+01:00"] {
        let times = format!("created_at = '{spelled}', updated_at = '{spelled}'");
        by_hand(&database, &format!("UPDATE vm_disks SET {times}")).await?;
        let times = format!("{times}, facts_at = '{spelled}'");
        by_hand(&database, &format!("UPDATE vm_replication_contexts SET {times}")).await?;
        let mut view = store.view().await?;
        let disks = view.disks_of(&[vm.id]).await?;
        let moment = "2026-01-02T03:04:05Z".parse()?;
        ensure!(!disks.is_empty() && disks.iter().all(|disk| disk.created_at == moment));
        (vm.created_at, vm.updated_at, vm.facts_at) = (moment, moment, Some(moment));
        ensure!(view.vms_page(None, 10).await?.whole()? == [vm.clone()], "{spelled}");
    }
    store.close().await;
    Ok(())
}

#[tokio::test]
async fn a_name_beyond_the_column_is_an_error_and_not_cut() -> anyhow::Result<()> {
    for kind in [DatabaseKind::MariaDb, DatabaseKind::Postgres] {
        let Some((store, _database)) = opened(kind).await? else { continue };
        let mut work = store.begin().await?;
        let long = fixtures::repository(1, &"x".repeat(300));
        ensure!(work.insert_repository(&long).await.is_err());
        drop(work);
        store.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_gone_is_unavailable() -> anyhow::Result<()> {
    for kind in ALL {
        let Some((store, _database)) = opened(kind).await? else { continue };
        store.ping().await?;
        store.close().await;
        let gone = store.ping().await;
        ensure!(matches!(gone, Err(StoreError::Unavailable(_))), "{kind:?} {gone:?}");
        let gone = store.begin().await.err();
        ensure!(matches!(gone, Some(StoreError::Unavailable(_))), "{kind:?} {gone:?}");
    }
    let nowhere = StoreOptions::new("sqlite:///nonexistent/catalogue.db", [7; 32]);
    ensure!(SeaStore::open(nowhere).await.is_err());
    Ok(())
}

#[tokio::test]
async fn sqlite_reads_beside_its_one_writer_and_folds_its_log_in() -> anyhow::Result<()> {
    let Some((store, database)) = opened(DatabaseKind::Sqlite).await? else { return Ok(()) };
    ensure!(store.kind() == "sqlite");
    add_vm(&store, 1).await?;
    let work = store.begin().await?;
    let mut view = store.view().await?;
    ensure!(view.inventory_totals().await?.vms == 1);
    drop((work, view));
    store.close().await;
    let file = database.url.trim_start_matches("sqlite://").trim_end_matches("?mode=rwc");
    ensure!(!std::path::Path::new(&format!("{file}-wal")).exists(), "the log stayed behind");
    Ok(())
}
