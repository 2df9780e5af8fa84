#![doc = include_str!("../README.md")]

mod connection;
mod ddl;
mod dialect;
mod fresh;
mod history;
mod lock;
mod loss;
mod sqlite_rebuild;
mod steps;
pub mod words;

pub use fresh::fresh;
pub use history::{MigrateError, StepStatus, down, status, up};
pub use loss::Loss;
