//! The catalogue: views from one pool, units of work from the other.

use std::sync::Arc;

use async_trait::async_trait;
use hub_ports::{Catalogue, Store, StoreError, UnitOfWork};
use hub_vm_disk_repo::store_error;
use sea_orm::{
    DatabaseConnection, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

use crate::access::{Secrets, secrets};
use crate::connection::{OpenError, Pools, StoreOptions, open};
use crate::met::Met;
use crate::secret::Sealer;
use crate::session::{Session, Unit};

/// The catalogue on a SQL database; cheap to clone.
#[derive(Clone)]
pub struct SeaStore {
    write: DatabaseConnection,
    read: DatabaseConnection,
    sealer: Arc<Sealer>,
    met: Arc<Met>,
}

impl SeaStore {
    /// Opens a database that was migrated before.
    pub async fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let Pools { write, read } = open(&options).await?;
        let sealer = Arc::new(Sealer::new(&options.secret_key));
        Ok(Self { write, read, sealer, met: Arc::default() })
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

    /// How many of the stored secrets this store's key opens. One that was garbled is not what a wrong key looks like: it
    /// counts nowhere, and makes its row unreadable.
    pub async fn secrets(&self) -> Result<Secrets, StoreError> {
        secrets(&self.read, &self.sealer).await
    }

    fn session(&self) -> Session<DatabaseConnection> {
        Session::new(self.read.clone(), Arc::clone(&self.sealer), Arc::clone(&self.met))
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
        Ok(Box::new(Session::new(unit, Arc::clone(&self.sealer), Arc::clone(&self.met))))
    }

    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError> {
        Ok(Box::new(self.session()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read.ping().await.map_err(store_error)
    }

    fn unreadable(&self) -> usize {
        self.met.count()
    }
}
