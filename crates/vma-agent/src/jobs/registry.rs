//! The jobs that are known: all that run, and the reports of those that ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::Job;
use super::request::ValidRequest;

/// All known jobs by id; ended ones are forgotten by age and by number, running ones never.
pub(super) struct Registry {
    jobs: HashMap<String, Arc<Job>>,
    keep_for: Duration,
    keep: usize,
}

/// What is known about the id of a request.
pub(super) enum Known {
    New,
    /// The same request came before.
    Same(Arc<Job>),
    /// The id belongs to another request.
    Other,
}

impl Registry {
    pub(super) fn new(keep_for: Duration, keep: usize) -> Self {
        Self { jobs: HashMap::new(), keep_for, keep }
    }

    pub(super) fn get(&mut self, id: &str) -> Option<Arc<Job>> {
        self.forget();
        self.jobs.get(id).cloned()
    }

    pub(super) fn find(&mut self, request: &ValidRequest) -> Known {
        match self.get(request.job_id()) {
            None => Known::New,
            Some(job) if job.is_for(request) => Known::Same(job),
            Some(_) => Known::Other,
        }
    }

    pub(super) fn insert(&mut self, job: Arc<Job>) {
        self.jobs.insert(job.id().to_owned(), job);
    }

    pub(super) fn running(&self) -> usize {
        self.jobs.values().filter(|it| it.ended_at().is_none()).count()
    }

    fn forget(&mut self) {
        let keep_for = self.keep_for;
        let is_kept = |job: &Job| job.ended_at().is_none_or(|at| at.elapsed() < keep_for);
        self.jobs.retain(|_, job| is_kept(job));
        let ended = |job: &Arc<Job>| Some((job.ended_at()?, job.id().to_owned()));
        let mut ended: Vec<(Instant, String)> = self.jobs.values().filter_map(ended).collect();
        if ended.len() > self.keep {
            ended.sort();
            let surplus = ended.len() - self.keep;
            for (_, id) in ended.into_iter().take(surplus) {
                self.jobs.remove(&id);
            }
        }
    }
}
