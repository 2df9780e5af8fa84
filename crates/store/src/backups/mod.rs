//! Backup runs, backup jobs and chains.

mod reads;
mod rows;
mod suspicion;
mod writes;
