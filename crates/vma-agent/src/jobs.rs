//! Copy jobs: accepted once, run by an owner, readable at any time, ended within seconds when asked.

mod check;
mod copying;
mod fault;
mod job;
mod rates;
mod registry;
mod request;
#[cfg(test)]
mod tests;

pub use request::InvalidRequest;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hub_nbd::RedialOptions;
use hub_vma_api::{CopyReport, CopyRequest, Fault};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::hub_pin::HubPin;
use crate::source::{Source, SourceError};
use check::Check;
use job::Job;
use rates::Rates;
use registry::{Known, Registry};
use request::ValidRequest;

/// How jobs are run and remembered.
#[derive(Clone, Debug)]
pub struct JobsOptions {
    /// Disks of one job that are copied at a time.
    pub disks_at_once: usize,
    /// Connections to the target of each disk.
    pub connections: usize,
    /// Jobs that may be under way at a time; one more is refused.
    pub max_running: usize,
    /// How long an order waits for a refusal of the source; the job waits for an answer that comes later. Much shorter
    /// than a hub waits for the answer to an order.
    pub check_within: Duration,
    /// How long the report of an ended job is kept.
    pub keep_for: Duration,
    /// How many reports of ended jobs are kept.
    pub keep_reports: usize,
    /// How long a hub that was lost in the middle of a copy is dialled again.
    pub redial: RedialOptions,
    /// What all jobs together may send, in bytes of data per second, whatever the hub allows.
    pub max_bytes_per_second: Option<NonZeroU64>,
    /// Where digest tables lie while a disk is copied: 32 bytes per block that is not zero.
    pub temp_dir: PathBuf,
    /// The hub that disks are sent to.
    pub hub: Arc<HubPin>,
}

impl Default for JobsOptions {
    fn default() -> Self {
        Self {
            disks_at_once: 2,
            connections: 2,
            max_running: 64,
            check_within: Duration::from_secs(10),
            keep_for: Duration::from_secs(24 * 60 * 60),
            keep_reports: 1000,
            redial: RedialOptions::default(),
            max_bytes_per_second: None,
            temp_dir: std::env::temp_dir(),
            hub: Arc::default(),
        }
    }
}

/// Why a job was not started; nothing has happened then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The request contradicts itself.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The job id is taken by another request.
    #[error("job `{0}` was started with another request; use a new job id")]
    OtherRequest(String),
    /// The disks may not go where the order sends them.
    #[error("{}", .0.detail)]
    Target(Fault),
    /// The source would refuse to open the disks.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// As many jobs as allowed are under way.
    #[error(
        "{0} jobs are under way, which is as many as this VMA runs; try again when one has ended"
    )]
    TooMany(usize),
    /// The VMA is being stopped.
    #[error("the VMA is being stopped; try again when it runs")]
    Stopping,
}

/// The owner of all copy jobs; dropping it ends them.
pub struct Jobs {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
    stop: CancellationToken,
}

/// What every job can reach.
struct Shared {
    source: Arc<dyn Source>,
    options: JobsOptions,
    registry: Mutex<Registry>,
    /// Orders on their way into the registry, by job.
    arriving: Mutex<Vec<String>>,
    rates: Rates,
}

/// An order that is being accepted or refused, until this is dropped.
struct Arriving<'a> {
    all: &'a Mutex<Vec<String>>,
    job_id: String,
}

impl<'a> Arriving<'a> {
    fn note(all: &'a Mutex<Vec<String>>, job_id: &str) -> Self {
        all.lock().push(job_id.to_owned());
        Self { all, job_id: job_id.to_owned() }
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|it| *it == self.job_id) {
            all.swap_remove(at);
        }
    }
}

impl Shared {
    /// A job at this moment, with what it waits for.
    fn report(&self, job: &Job) -> CopyReport {
        let report = job.report();
        let waiting = self.source.waits_for(job.id()).filter(|_| !report.state.is_terminal());
        CopyReport { waiting, ..report }
    }
}

impl Jobs {
    /// An owner whose jobs run on the current runtime until `stop` is cancelled.
    ///
    /// Call it on the runtime that lives as long as the program: a reader process dies with the thread that made it.
    pub fn new(source: Arc<dyn Source>, options: JobsOptions, stop: CancellationToken) -> Self {
        let registry = Mutex::new(Registry::new(options.keep_for, options.keep_reports));
        let rates = Rates::new(options.max_bytes_per_second);
        let arriving = Mutex::default();
        let shared = Arc::new(Shared { source, options, registry, arriving, rates });
        Self { shared, tasks: Mutex::new(JoinSet::new()), runtime: Handle::current(), stop }
    }

    /// The source that its jobs read.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.shared.source
    }

    /// The hub that disks are sent to.
    pub fn hub(&self) -> &HubPin {
        &self.shared.options.hub
    }

    /// Starts a job, or answers the one that runs or ran with the same id and the same request.
    ///
    /// A source that does not say soon enough whether it refuses keeps no order: its job waits for it.
    pub async fn start(&self, request: CopyRequest) -> Result<CopyReport, StartError> {
        let request = ValidRequest::new(request)?;
        // Until the registry has it, so that nobody takes a job for over that is about to begin.
        let _arriving = Arriving::note(&self.shared.arriving, request.job_id());
        if let Some(job) = self.known(&request)? {
            self.shared.rates.told(&job, request.rates());
            return Ok(self.shared.report(&job));
        }
        for target in request.targets() {
            self.shared.options.hub.security(target).map_err(StartError::Target)?;
        }
        let source = self.shared.source.clone();
        let mut check = Check::begin(source, request.to_open(), &self.runtime);
        check.within(self.shared.options.check_within).await?;
        let job = {
            let mut registry = self.shared.registry.lock();
            match registry.find(&request) {
                Known::Same(job) => return Ok(self.shared.report(&job)),
                Known::Other => return Err(StartError::OtherRequest(request.job_id().to_owned())),
                Known::New => (),
            }
            if self.stop.is_cancelled() {
                return Err(StartError::Stopping);
            }
            let limit = self.shared.options.max_running;
            if registry.running() >= limit {
                return Err(StartError::TooMany(limit));
            }
            let job = Arc::new(Job::new(&request, self.stop.child_token()));
            registry.insert(job.clone());
            job
        };
        self.shared.rates.told(&job, request.rates());
        let report = self.shared.report(&job);
        self.spawn(job, request, check);
        Ok(report)
    }

    /// Where a job stands; nothing when the id is unknown or its report has expired.
    pub fn report(&self, job_id: &str) -> Option<CopyReport> {
        let job = self.shared.registry.lock().get(job_id)?;
        Some(self.shared.report(&job))
    }

    /// Whether a job runs, or an order for it is being accepted at this moment.
    pub fn is_at_work(&self, job_id: &str) -> bool {
        // Asked in this order: an order is in the registry before it is no longer on its way.
        let arriving = self.shared.arriving.lock().iter().any(|it| it == job_id);
        arriving || self.report(job_id).is_some_and(|it| !it.state.is_terminal())
    }

    /// As [`report`](Self::report), but held back until more disks than `ended` have ended, or the whole job has, at
    /// most for `wait`.
    pub async fn report_after(
        &self,
        job_id: &str,
        ended: usize,
        wait: Duration,
    ) -> Option<CopyReport> {
        let job = self.shared.registry.lock().get(job_id)?;
        // Without news in time the report is as it is.
        let _ = tokio::time::timeout(wait, job.news(ended)).await;
        Some(self.shared.report(&job))
    }

    /// Asks a job to end; one that has ended stays as it is.
    pub fn cancel(&self, job_id: &str) -> Option<CopyReport> {
        let job = self.shared.registry.lock().get(job_id)?;
        job.cancel();
        Some(self.shared.report(&job))
    }

    /// Cancels every job and waits until they have ended, at most for `grace`.
    pub async fn shut_down(&self, grace: Duration) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("jobs did not end in time and are dropped");
        }
    }

    fn known(&self, request: &ValidRequest) -> Result<Option<Arc<Job>>, StartError> {
        match self.shared.registry.lock().find(request) {
            Known::New => Ok(None),
            Known::Same(job) => Ok(Some(job)),
            Known::Other => Err(StartError::OtherRequest(request.job_id().to_owned())),
        }
    }

    fn spawn(&self, job: Arc<Job>, request: ValidRequest, check: Check) {
        let span = tracing::info_span!("job", job.id = request.job_id(), vm.id = request.vm_id());
        let shared = self.shared.clone();
        let mut tasks = self.tasks.lock();
        // Ended tasks are collected here, so that the set stays as small as the jobs under way.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(supervise(shared, job, request, check).instrument(span), &self.runtime);
    }
}

/// Runs a job behind a fence: a panic ends that job as failed and nothing else.
async fn supervise(shared: Arc<Shared>, job: Arc<Job>, request: ValidRequest, check: Check) {
    let mut fence = JoinSet::new();
    let running = copying::run(shared, job.clone(), request, check);
    fence.spawn(running.in_current_span());
    let ended = fence.join_next().await;
    if let Some(Err(error)) = ended {
        tracing::error!(error = %error, "a job ended unexpectedly");
    }
    job.finish();
}
