//! Owed clean-ups.

use async_trait::async_trait;
use hub_domain::owed::OwedCleanup;

use super::Row;
use crate::StoreError;

/// Reads owed clean-ups.
#[async_trait]
pub trait OwedReads: Send {
    /// Up to `limit` of them, the longest owed first.
    async fn owed_cleanups(&mut self, limit: u32) -> Result<Vec<Row<OwedCleanup>>, StoreError>;

    /// The one of a copy.
    async fn owed_cleanup(&mut self, copy: &str) -> Result<Option<OwedCleanup>, StoreError>;
}

/// Writes owed clean-ups.
#[async_trait]
pub trait OwedWrites: Send {
    /// Writes one down under the name of its copy, before that is ordered. One that is there already keeps its age and
    /// its tries, and is owed by this order, by this VMA and with this login, from now on.
    async fn owe(&mut self, owed: &OwedCleanup) -> Result<(), StoreError>;

    /// Notes the last try; nothing happens when it was struck off meanwhile.
    async fn note_try(&mut self, owed: &OwedCleanup) -> Result<(), StoreError>;

    /// Strikes one off, unless it is gone or its copy was ordered again since it was read; whether it was struck off.
    async fn strike_off(&mut self, owed: &OwedCleanup) -> Result<bool, StoreError>;
}
