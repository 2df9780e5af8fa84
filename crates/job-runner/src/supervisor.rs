//! Tasks that are known by a key, limited in number, and never outlive the hub.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hub_domain::copy_line::CopyNeeds;
use hub_domain::limits::CopyCount;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::CopySlots;

/// Spawns, cancels and awaits everything that runs in the background; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    tasks: Mutex<Tasks>,
    slots: Semaphore,
    copies: CopySlots,
    stop: CancellationToken,
    on_ending: Report,
}

/// Hears how each task ended.
type Report = Box<dyn Fn(&JobKey, Ending) + Send + Sync>;

#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    known: BTreeMap<JobKey, CancellationToken>,
    closed: bool,
}

/// What a supervisor is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many jobs other than copies are at work at once; the others wait, in the order of their coming.
    pub concurrent_jobs: usize,
    /// How many copies are at work at once on the whole hub.
    pub concurrent_copies: CopyCount,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrent_jobs: 4, concurrent_copies: CopyCount::DEFAULT }
    }
}

/// What a task is known by, such as `backup/0190…`: of two with one key, only the first runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(String);

impl JobKey {
    /// The key of a job of this kind with this id.
    pub fn new(kind: &str, id: impl fmt::Display) -> Self {
        Self(format!("{kind}/{id}"))
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Done,
    /// It panicked, and said this.
    Panicked(String),
}

/// Why a task was not spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSpawned {
    /// One with this key is at work already.
    #[error("a task with this key is at work already")]
    Known,
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
}

/// Tasks that did not end within the grace of a shutdown, and were dropped where they stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} tasks did not stop in time and were dropped", .0.len())]
pub struct Stragglers(pub Vec<JobKey>);

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new(options: Options) -> Self {
        Self::reporting(options, |_, _| ())
    }

    /// The same; `on_ending` hears how each task ended, from the task's own thread.
    pub fn reporting(
        options: Options,
        on_ending: impl Fn(&JobKey, Ending) + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            tasks: Mutex::default(),
            slots: Semaphore::new(options.concurrent_jobs.max(1)),
            copies: CopySlots::new(options.concurrent_copies),
            stop: CancellationToken::new(),
            on_ending: Box::new(on_ending),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Runs a job as soon as a slot is free; until then its record says `queued`.
    ///
    /// A job that is cancelled while it waits gets its turn at once and without a slot, so that it can end its record.
    pub fn spawn_job<W, F>(
        &self,
        name: &'static str,
        key: JobKey,
        work: W,
    ) -> Result<(), NotSpawned>
    where
        W: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.spawn(name, key, move |cancel| async move {
            // The semaphore is never closed, so the only other way on is the cancellation.
            let slot = tokio::select! {
                slot = inner.slots.acquire() => slot.ok(),
                () = cancel.cancelled() => None,
            };
            work(cancel).await;
            drop(slot);
        })
    }

    /// Runs a copy as soon as every limit that it falls under has room; until then it waits in line, and nothing has
    /// been done for it: no snapshot and no target is open.
    ///
    /// One that is cancelled while it waits gets its turn at once and without a slot, so that it can end its record.
    pub fn spawn_copy<W, F>(
        &self,
        name: &'static str,
        key: JobKey,
        needs: CopyNeeds,
        work: W,
    ) -> Result<(), NotSpawned>
    where
        W: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // The line is joined here and not in the task: tasks begin in no order.
        let mut place = self.inner.copies.join(key.clone(), needs);
        self.spawn(name, key, move |cancel| async move {
            if cancel.run_until_cancelled(place.turn()).await.is_none() {
                drop(place);
                return work(cancel).await;
            }
            work(cancel).await;
            drop(place);
        })
    }

    /// The line of the copies.
    pub fn copies(&self) -> &CopySlots {
        &self.inner.copies
    }

    /// Runs a task at once, such as a ticker; it gets a token of its own that a shutdown cancels too.
    pub fn spawn<W, F>(&self, name: &'static str, key: JobKey, work: W) -> Result<(), NotSpawned>
    where
        W: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = self.inner.tasks.lock();
        if tasks.closed {
            return Err(NotSpawned::Stopping);
        }
        if tasks.known.contains_key(&key) {
            return Err(NotSpawned::Known);
        }
        while tasks.running.try_join_next().is_some() {}
        let cancel = self.inner.stop.child_token();
        tasks.known.insert(key.clone(), cancel.clone());
        let span = tracing::info_span!("task", task.name = name, task.key = %key);
        let inner = Arc::clone(&self.inner);
        // The work is made inside the fence as well: a panic there is a panic of the task.
        let fenced = AssertUnwindSafe(async move { work(cancel).await }).catch_unwind();
        tasks.running.spawn(
            async move {
                let ending = match fenced.await {
                    Ok(()) => Ending::Done,
                    Err(panic) => Ending::Panicked(said(panic.as_ref())),
                };
                inner.ended(&key, ending);
            }
            .instrument(span),
        );
        Ok(())
    }

    /// Asks the task with this key to stop; whether there is one.
    pub fn cancel(&self, key: &JobKey) -> bool {
        let token = self.inner.tasks.lock().known.get(key).cloned();
        token.is_some_and(|token| {
            token.cancel();
            true
        })
    }

    /// The keys of everything that waits or is at work.
    pub fn tasks(&self) -> Vec<JobKey> {
        self.inner.tasks.lock().known.keys().cloned().collect()
    }

    /// Takes nothing new, asks everything to stop, and waits for it up to `grace`; then drops what is left.
    ///
    /// Must not be called from a task of its own.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), Stragglers> {
        let mut running = {
            let mut tasks = self.inner.tasks.lock();
            tasks.closed = true;
            std::mem::take(&mut tasks.running)
        };
        self.inner.stop.cancel();
        let all = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return Ok(());
        }
        let left = self.tasks();
        running.shutdown().await;
        self.inner.tasks.lock().known.clear();
        if left.is_empty() { Ok(()) } else { Err(Stragglers(left)) }
    }
}

impl Inner {
    fn ended(&self, key: &JobKey, ending: Ending) {
        self.tasks.lock().known.remove(key);
        if let Ending::Panicked(said) = &ending {
            tracing::error!(task.key = %key, panic = %said, "a task panicked; its job is ended at the next start of the hub");
        }
        (self.on_ending)(key, ending);
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_owned())
}

#[cfg(test)]
mod tests;
