//! A view or a unit of work: the same reads over a pool or a transaction, writes over a transaction only.

use std::sync::Arc;

use async_trait::async_trait;
use hub_block::failpoint::{self, Point};
use hub_ports::store::Row;
use hub_ports::{StoreError, UnitOfWork};
use hub_vm_disk_repo::rows::listed;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, EntityTrait, Select,
};

use crate::met::Met;
use crate::secret::Sealer;
use crate::watched::Watched;

/// Reads go through [`Session::db`] whatever it is.
pub(crate) struct Session<S> {
    pub(crate) source: S,
    pub(crate) sealer: Arc<Sealer>,
    met: Arc<Met>,
}

impl<S> Session<S> {
    pub(crate) fn new(source: S, sealer: Arc<Sealer>, met: Arc<Met>) -> Self {
        Self { source, sealer, met }
    }

    /// Hands a list of a table on, once what of it cannot be read is noted.
    pub(crate) fn noted<T>(
        &self,
        table: &'static str,
        rows: Vec<Row<T>>,
        key: impl Fn(&T) -> String,
    ) -> Vec<Row<T>> {
        self.met.note(table, &rows, key);
        rows
    }
}

/// Where a session's statements go.
pub(crate) trait Source: Send + Sync {
    type Connection: ConnectionTrait + Send + Sync;

    fn connection(&self) -> &Self::Connection;
}

impl<S: Source> Session<S> {
    pub(crate) fn db(&self) -> &S::Connection {
        self.source.connection()
    }

    /// A list of whole rows: see [`listed`].
    pub(crate) async fn list<E: EntityTrait, T>(
        &self,
        query: Select<E>,
        of: Option<E::Column>,
        value: impl Fn(E::Model) -> Result<T, StoreError>,
        key: impl Fn(&T) -> String,
    ) -> Result<Vec<Row<T>>, StoreError> {
        let rows = listed(self.db(), query, of, value).await?;
        Ok(self.noted(E::default().table_name(), rows, key))
    }
}

impl Source for DatabaseConnection {
    type Connection = Self;

    fn connection(&self) -> &Self {
        self
    }
}

/// A unit of work: an open transaction, undone when dropped.
pub(crate) struct Unit {
    transaction: Watched,
    pool: DatabaseConnection,
    inserted: usize,
}

impl Unit {
    pub(crate) fn new(transaction: DatabaseTransaction, pool: DatabaseConnection) -> Self {
        Self { transaction: Watched::new(transaction), pool, inserted: 0 }
    }

    /// Counts rows of the inventory that were inserted.
    pub(crate) fn count_inserted(&mut self, rows: usize) {
        self.inserted += rows;
    }
}

impl Source for Unit {
    type Connection = Watched;

    fn connection(&self) -> &Watched {
        &self.transaction
    }
}

/// So many new rows make a server plan with wrong statistics until it looks again by itself, which takes MariaDB
/// seconds and PostgreSQL up to a minute: it reads the whole table for one VM.
const LARGE_INSERT: usize = 5_000;

#[async_trait]
impl UnitOfWork for Session<Unit> {
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Unit { transaction, pool, inserted } = self.source;
        failpoint::reach(Point::CatalogueCommit).map_err(unavailable)?;
        transaction.commit().await?;
        failpoint::reach(Point::CatalogueCommitted).map_err(unavailable)?;
        if inserted >= LARGE_INSERT && pool.get_database_backend() != DbBackend::Sqlite {
            renew_statistics(&pool).await;
        }
        Ok(())
    }
}

/// What a failpoint orders looks like a database that has gone.
fn unavailable(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

async fn renew_statistics(pool: &DatabaseConnection) {
    let verb =
        if pool.get_database_backend() == DbBackend::MySql { "ANALYZE TABLE" } else { "ANALYZE" };
    let analyze = format!("{verb} vm_replication_contexts, vm_disks");
    if let Err(error) = pool.execute_unprepared(&analyze).await {
        tracing::warn!(%error, "the statistics of the inventory were not renewed; lists may be slow for a while");
    }
}
