//! How the databases find what the health of a hub asks for.

use hub_migration as migration;
use hub_ports::Store as _;
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_testkit::store_contract::samples::{BackedUp, back_up, standing_on};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbBackend, Statement};

use super::*;
use crate::{SeaStore, StoreOptions};

const ALL: [DatabaseKind; 3] =
    [DatabaseKind::Sqlite, DatabaseKind::MariaDb, DatabaseKind::Postgres];

/// Backups beside which a database has a reason to use an index.
const MANY: u128 = 3_000;

/// A catalogue with many backups, none of them suspect, and a connection beside it.
async fn many(kind: DatabaseKind) -> anyhow::Result<Option<(TestDatabase, DatabaseConnection)>> {
    let Some(database) = TestDatabase::create(kind).await? else { return Ok(None) };
    migration::up(&database.url).await?;
    let store = SeaStore::open(StoreOptions::new(&database.url, [7; 32]).connections(2)).await?;
    let BackedUp { mut run, jobs, .. } = back_up(&store, 1).await?;
    run.id = "00000000-0000-0000-0000-00000000aaaa".parse()?;
    let more = (0..MANY).map(|number| {
        let mut job = standing_on(&jobs[0], 0x1_0000 + number);
        (job.run, job.method) = (run.id, CopyMethod::CHANGED_SINCE.to_owned());
        job
    });
    let mut work = store.begin().await?;
    work.insert_backup_run(&run, &more.collect::<Vec<_>>()).await?;
    work.commit().await?;
    store.close().await;
    let mut options = ConnectOptions::new(database.url.clone());
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await?;
    let analyze = if kind == DatabaseKind::MariaDb { "ANALYZE TABLE" } else { "ANALYZE" };
    db.execute_unprepared(&format!("{analyze} backup_jobs")).await?;
    Ok(Some((database, db)))
}

/// What a database says that it does to count some backups.
async fn plan(db: &DatabaseConnection, of: Condition) -> anyhow::Result<String> {
    let backend = db.get_database_backend();
    let explain = if backend == DbBackend::Sqlite {
        "EXPLAIN QUERY PLAN"
    } else if backend == DbBackend::MySql {
        "EXPLAIN FORMAT=JSON"
    } else {
        "EXPLAIN"
    };
    let counted = backup_job::Entity::find().filter(of).build(backend);
    let explain = format!("{explain} SELECT COUNT(*) FROM ({counted}) AS sub_query");
    let rows = db.query_all_raw(Statement::from_string(backend, explain)).await?;
    let column = if backend == DbBackend::Sqlite { 3 } else { 0 };
    let lines = rows.iter().map(|row| row.try_get_by_index::<String>(column));
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

#[tokio::test]
async fn the_few_suspect_points_of_many_are_found_by_their_index() {
    for kind in ALL {
        let Some((_database, db)) = many(kind).await.unwrap() else { continue };
        for of in [suspect_points(), suspect_latest()] {
            let plan = plan(&db, of).await.unwrap();
            assert!(plan.contains("idx_backup_jobs_suspicion"), "{kind:?}: {plan}");
        }
        db.close().await.unwrap();
    }
}

/// What stands in an index is compared as text there: no suspicion may look like none.
#[tokio::test]
async fn what_is_found_by_the_index_is_what_is_not_null() {
    for kind in ALL {
        let Some((database, db)) = many(kind).await.unwrap() else { continue };
        let id = "00000000-0000-0000-0000-000000010000";
        let suspicion = format!("UPDATE backup_jobs SET suspicion = '{{}}' WHERE id = '{id}'");
        database.execute(&suspicion).await.unwrap();
        let found = count(&db, suspect_points()).await.unwrap();
        assert_eq!(found, 1, "{kind:?}");
        db.close().await.unwrap();
    }
}
