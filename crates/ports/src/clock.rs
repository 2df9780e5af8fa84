//! Time and ids come from outside, so that tests can hold both still.

use hub_domain::time::Timestamp;
use uuid::Uuid;

/// Where engines get the time.
pub trait Clock: Send + Sync {
    /// The current moment, in whole microseconds.
    fn now(&self) -> Timestamp;
}

/// Where engines get ids.
pub trait IdGen: Send + Sync {
    /// A fresh id; ids made by one hub sort in the order of their making.
    fn new_id(&self) -> Uuid;
}
