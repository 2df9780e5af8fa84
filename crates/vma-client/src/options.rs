//! Deadlines and limits of the calls to a VMA.

use std::time::Duration;

/// How long a call may take and how much a VMA may answer.
#[derive(Clone, Debug)]
pub struct VmaClientOptions {
    /// Until a connection stands.
    pub connect: Duration,
    /// Identity, progress and cancel, from connect to the last byte.
    pub quick: Duration,
    /// For how long a node that did not answer is taken to be silent, where another one can take its place.
    pub silence: Duration,
    /// The start of a copy, and the test of a login: a VMA answers sooner than this, also where its source does not; a
    /// copy then waits for its source as a job.
    pub start: Duration,
    /// A clean-up: deltas of a large snapshot take minutes to merge.
    pub cleanup: Duration,
    /// A discovery: a vCenter with thousands of VMs takes minutes.
    pub discovery: Duration,
    /// Largest inventory, in bytes.
    pub inventory_limit: usize,
    /// Largest copy report, in bytes.
    pub report_limit: usize,
    /// Largest of all other answers, in bytes.
    pub answer_limit: usize,
}

impl Default for VmaClientOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            quick: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            start: Duration::from_secs(60),
            cleanup: Duration::from_secs(300),
            discovery: Duration::from_secs(600),
            inventory_limit: 256 << 20,
            report_limit: 8 << 20,
            answer_limit: 1 << 20,
        }
    }
}
