//! Migrated databases with a catalogue on them.

use std::sync::Arc;

use hub_store::{SeaStore, StoreOptions};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_testkit::store_contract::StoreUnderTest;

/// The key of every test's secrets.
pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) async fn sqlite() -> anyhow::Result<Option<StoreUnderTest>> {
    under_test(DatabaseKind::Sqlite).await
}

pub(crate) async fn mariadb() -> anyhow::Result<Option<StoreUnderTest>> {
    under_test(DatabaseKind::MariaDb).await
}

pub(crate) async fn postgres() -> anyhow::Result<Option<StoreUnderTest>> {
    under_test(DatabaseKind::Postgres).await
}

async fn under_test(kind: DatabaseKind) -> anyhow::Result<Option<StoreUnderTest>> {
    Ok(opened(kind).await?.map(|(store, database)| StoreUnderTest {
        store: Arc::new(store),
        database: Some(database),
    }))
}

/// A catalogue on a fresh, migrated database.
pub(crate) async fn opened(kind: DatabaseKind) -> anyhow::Result<Option<(SeaStore, TestDatabase)>> {
    let Some(database) = TestDatabase::create(kind).await? else { return Ok(None) };
    hub_migration::up(&database.url).await?;
    let store = SeaStore::open(StoreOptions::new(&database.url, KEY).connections(8)).await?;
    Ok(Some((store, database)))
}
