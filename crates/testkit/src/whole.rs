//! Lists of a test, of which every row can be read.

use hub_ports::StoreError;
use hub_ports::store::{Row, all_readable};

/// A list of rows.
pub trait Whole<T> {
    /// Its values; an error where one cannot be read.
    fn whole(self) -> Result<Vec<T>, StoreError>;
}

impl<T> Whole<T> for Vec<Row<T>> {
    fn whole(self) -> Result<Vec<T>, StoreError> {
        all_readable(self)
    }
}
