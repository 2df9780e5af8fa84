//! The catalogue: views from one pool, units of work from the other.

use std::sync::Arc;

use async_trait::async_trait;
use hub_ports::{Catalogue, Store, StoreError, UnitOfWork};
use hub_vm_disk_repo::store_error;
use sea_orm::{
    DatabaseConnection, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

use crate::connection::{OpenError, Pools, StoreOptions, open};
use crate::secret::Sealer;
use crate::session::{Session, Unit};

/// The catalogue on a SQL database; cheap to clone.
#[derive(Clone)]
pub struct SeaStore {
    write: DatabaseConnection,
    read: DatabaseConnection,
    sealer: Arc<Sealer>,
}

impl SeaStore {
    /// Opens a database that was migrated before.
    pub async fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let Pools { write, read } = open(&options).await?;
        Ok(Self { write, read, sealer: Arc::new(Sealer::new(&options.secret_key)) })
    }

    /// Which database it is, for health reports: `sqlite`, `mariadb` or `postgres`.
    pub fn kind(&self) -> &'static str {
        let backend = self.read.get_database_backend();
        if backend == DbBackend::MySql {
            "mariadb"
        } else if backend == DbBackend::Postgres {
            "postgres"
        } else {
            "sqlite"
        }
    }

    /// Closes all connections once what runs on them has ended; on SQLite this folds the write-ahead log in.
    pub async fn close(&self) {
        // What fails to close was closed by the other side already.
        let _ = self.read.close_by_ref().await;
        let _ = self.write.close_by_ref().await;
    }
}

#[async_trait]
impl Store for SeaStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let transaction = self.write.begin_with_options(options).await.map_err(store_error)?;
        let unit = Unit::new(transaction, self.write.clone());
        Ok(Box::new(Session::new(unit, Arc::clone(&self.sealer))))
    }

    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError> {
        Ok(Box::new(Session::new(self.read.clone(), Arc::clone(&self.sealer))))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read.ping().await.map_err(store_error)
    }
}
