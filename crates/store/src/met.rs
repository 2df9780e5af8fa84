//! Rows that lists have met and that cannot be read: counted for the health of the hub, and logged once each.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use hub_ports::store::Row;

/// Most that are remembered; beyond that a catalogue is not garbled here and there any more.
const MOST: usize = 10_000;

/// The rows, by table and key.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<BTreeSet<(&'static str, String)>>);

impl Met {
    /// Remembers what of a list of a table cannot be read, and forgets what can be read again.
    pub(crate) fn note<T>(&self, table: &'static str, rows: &[Row<T>], key: impl Fn(&T) -> String) {
        if rows.iter().all(Result::is_ok) && self.count() == 0 {
            return;
        }
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            match row {
                Ok(value) => drop(met.remove(&(table, key(value)))),
                Err(row) if met.len() < MOST => {
                    if met.insert((row.table, row.id.clone())) {
                        tracing::error!(
                            table = row.table, id = %row.id, problem = %row.problem,
                            "a row of the catalogue cannot be read"
                        );
                    }
                }
                Err(_) => (),
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
