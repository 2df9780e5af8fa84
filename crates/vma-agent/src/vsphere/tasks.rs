//! What has to go on when whoever began it is gone: making and removing snapshots, ending readers.

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Tasks that end with the source, and with nothing less.
pub(super) struct Tasks {
    set: Mutex<JoinSet<()>>,
    runtime: Handle,
}

impl Tasks {
    /// Tasks on the current runtime.
    pub(super) fn here() -> Self {
        Self { set: Mutex::default(), runtime: Handle::current() }
    }

    /// Runs something to its end, whoever waits for it or not.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock();
        while set.try_join_next().is_some() {}
        set.spawn_on(work, &self.runtime);
    }
}
