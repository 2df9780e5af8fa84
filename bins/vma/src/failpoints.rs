//! How a crash campaign arms a debug build; a release build does not have this file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use hub_block::failpoint;

/// What to do at which step; the words are those of `hub_block::failpoint`.
#[derive(Debug, Default, Args)]
pub(crate) struct Failpoints {
    /// Orders such as `seal.durable=kill@2`.
    #[arg(long = "failpoints", env = "SENDENSE_FAILPOINTS", value_name = "ORDERS", hide = true)]
    orders: Option<String>,
    /// A file to which the name of every point that is reached is appended.
    #[arg(
        long = "failpoints-record",
        env = "SENDENSE_FAILPOINTS_RECORD",
        value_name = "FILE",
        hide = true
    )]
    record: Option<PathBuf>,
}

impl Failpoints {
    /// Arms this process, if anything was ordered.
    pub(crate) fn arm(&self) -> Result<()> {
        if self.orders.is_none() && self.record.is_none() {
            return Ok(());
        }
        let orders = self.orders.as_deref().unwrap_or_default();
        failpoint::arm(orders, self.record.as_deref()).context("the failpoints cannot be armed")
    }
}
