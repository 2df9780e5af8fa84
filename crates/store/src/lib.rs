//! The SeaORM catalogue: every table, and the unit of work.
