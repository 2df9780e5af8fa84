//! The limit of open files, which systems set low for the sake of very old programs.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the highest that this process is allowed: a VM may have 64 disks of many extents
/// and layers, which are all open at one instant.
pub(crate) fn raise_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("the limit of open files cannot be raised")
}
