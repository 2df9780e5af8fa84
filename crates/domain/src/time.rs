//! Times, in the precision that every database keeps.

use chrono::{DateTime, SubsecRound, Utc};

/// A moment in UTC, whole microseconds.
pub type Timestamp = DateTime<Utc>;

/// Cuts a moment to whole microseconds: MariaDB and PostgreSQL keep no more, and a value must read back as written.
pub fn to_micros(moment: DateTime<Utc>) -> Timestamp {
    moment.trunc_subsecs(6)
}
