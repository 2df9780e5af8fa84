//! The catalogue in memory stands the same trial as the databases.

use std::sync::Arc;

use super::MemStore;
use crate::store_contract::StoreUnderTest;

async fn memory() -> anyhow::Result<Option<StoreUnderTest>> {
    Ok(Some(StoreUnderTest { store: Arc::new(MemStore::default()), database: None }))
}

crate::store_contract!(memory);
