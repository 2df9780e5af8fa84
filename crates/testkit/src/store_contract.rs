//! What every catalogue must do: one suite for the one in memory and those on databases.
//!
//! A catalogue stands the trial with [`store_contract!`](crate::store_contract!) and a function that makes an empty
//! one; each behaviour is a test of its own.

pub mod access;
pub mod backups;
pub mod bulk;
pub mod identity;
pub mod inventory;
pub mod links;
pub mod owed;
pub mod removals;
pub mod replications;
pub mod restores;
mod roster;
pub mod samples;
pub mod units;

use std::sync::Arc;

use hub_ports::{Store, StoreError};

use crate::database::TestDatabase;

/// What a behaviour answers.
pub type Outcome = anyhow::Result<()>;

/// An empty catalogue, and the database under it.
pub struct StoreUnderTest {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Dropped after the catalogue; none for one in memory.
    pub database: Option<TestDatabase>,
}

/// The error of something that must fail.
pub(crate) fn refusal<T>(result: Result<T, StoreError>) -> anyhow::Result<StoreError> {
    match result {
        Ok(_) => anyhow::bail!("the catalogue took what it must refuse"),
        Err(error) => Ok(error),
    }
}

/// Checks which error something failed with.
macro_rules! ensure_refused {
    ($result:expr, $pattern:pat) => {{
        let error = $crate::store_contract::refusal($result)?;
        anyhow::ensure!(
            matches!(error, $pattern),
            "expected {}, got {error:?}",
            stringify!($pattern)
        );
    }};
}
pub(crate) use ensure_refused;
