//! Whole jobs, against targets that work and targets that do not.

mod acceptance;
mod audits;
mod copies;
mod faults;
mod folder;
mod transport;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Jobs, JobsOptions};
use crate::source::Source;

fn jobs(source: impl Source + 'static) -> Jobs {
    Jobs::new(Arc::new(source), JobsOptions::default(), CancellationToken::new())
}
