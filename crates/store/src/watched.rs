//! A transaction that remembers whether a statement of it failed.
//!
//! PostgreSQL answers COMMIT after a failed statement with a silent rollback, the others commit the rest. A unit of
//! work is all or nothing, so here none of them commits.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hub_ports::StoreError;
use hub_vm_disk_repo::store_error;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

/// The transaction of one unit of work.
pub(crate) struct Watched {
    transaction: DatabaseTransaction,
    failed: AtomicBool,
}

impl Watched {
    pub(crate) fn new(transaction: DatabaseTransaction) -> Self {
        Self { transaction, failed: AtomicBool::new(false) }
    }

    /// Commits, unless a statement failed.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        if self.failed.into_inner() {
            return Err(StoreError::Internal(
                "a statement of this unit of work failed, so nothing of it is kept".into(),
            ));
        }
        self.transaction.commit().await.map_err(store_error)
    }

    fn watch<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait]
impl ConnectionTrait for Watched {
    fn get_database_backend(&self) -> DbBackend {
        self.transaction.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.watch(self.transaction.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.watch(self.transaction.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.watch(self.transaction.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.watch(self.transaction.query_all_raw(statement).await)
    }
}
