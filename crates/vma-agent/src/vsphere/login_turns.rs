//! Who may try a login: one at a time, unless it was accepted a moment ago.
//!
//! A password may be changed at any time; jobs that are due at one hour would all send the old one before the first of
//! them hears that it is refused, and an account is locked after a few refusals.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// For so long after a login was accepted, others make it without a turn.
const FRESH: Duration = Duration::from_secs(10);

/// Logins that are remembered; those that nobody waits for go first.
const MAX_LINES: usize = 1024;

/// Turns by login.
#[derive(Default)]
pub(super) struct LoginTurns {
    lines: Mutex<HashMap<u64, Line>>,
}

#[derive(Default)]
struct Line {
    fresh_until: Option<Instant>,
    /// What the last one missed who tried in vain.
    turn: Arc<tokio::sync::Mutex<Option<Missed>>>,
}

struct Missed {
    at: Instant,
    detail: String,
}

/// A turn; the next one's begins when this is dropped.
pub(super) struct LoginTurn {
    last: OwnedMutexGuard<Option<Missed>>,
    since: Instant,
}

impl LoginTurns {
    /// Waits for the turn of a login; none is needed where it was accepted a moment ago, and then all go on at once.
    pub(super) async fn turn(&self, key: u64) -> Option<LoginTurn> {
        let since = Instant::now();
        let turn = self.line(key)?;
        let last = turn.lock_owned().await;
        self.line(key).map(|_| LoginTurn { last, since })
    }

    /// The line of a login, where it has to be stood in.
    fn line(&self, key: u64) -> Option<Arc<tokio::sync::Mutex<Option<Missed>>>> {
        let mut lines = self.lines.lock();
        if lines.len() >= MAX_LINES {
            lines.retain(|_, it| it.is_fresh() || Arc::strong_count(&it.turn) > 1);
        }
        let line = lines.entry(key).or_default();
        (!line.is_fresh()).then(|| line.turn.clone())
    }

    /// A login was accepted.
    pub(super) fn is_accepted(&self, key: u64) {
        self.lines.lock().entry(key).or_default().fresh_until = Some(Instant::now() + FRESH);
    }

    /// A login was refused, or whether it still is accepted has to be asked by one.
    pub(super) fn is_doubted(&self, key: u64) {
        if let Some(line) = self.lines.lock().get_mut(&key) {
            line.fresh_until = None;
        }
    }

    /// Lets time pass for all logins.
    #[cfg(test)]
    pub(super) fn age(&self) {
        self.lines.lock().values_mut().for_each(|it| it.fresh_until = None);
    }
}

impl Line {
    fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|it| Instant::now() < it)
    }
}

impl LoginTurn {
    /// What somebody heard in vain while this one waited: it would hear the same, after as long a time.
    pub(super) fn missed(&self) -> Option<String> {
        let missed = self.last.as_ref().filter(|it| it.at >= self.since);
        missed.map(|it| it.detail.clone())
    }

    /// The endpoint did not answer whether the login is right.
    pub(super) fn misses(&mut self, detail: String) {
        *self.last = Some(Missed { at: Instant::now(), detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a future has come to, if it has.
    async fn now<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(Duration::from_millis(1), future).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_tried_by_one_until_it_is_accepted_and_again_when_that_is_long_ago() {
        let turns = LoginTurns::default();
        let mut first = turns.turn(1).await.unwrap();
        let mut second = Box::pin(turns.turn(1));
        let mut third = Box::pin(turns.turn(1));
        assert!(now(second.as_mut()).await.is_none() && now(third.as_mut()).await.is_none());
        assert!(now(turns.turn(2)).await.is_some(), "another login does not wait");
        assert_eq!(first.missed(), None);
        first.misses("nobody answers".to_owned());
        drop(first);
        let told = second.await.unwrap();
        assert_eq!(told.missed().as_deref(), Some("nobody answers"));
        drop(told);
        drop(third.await.unwrap());
        let later = turns.turn(1).await.unwrap();
        assert_eq!(later.missed(), None, "who came after it tries for itself");
        turns.is_accepted(1);
        assert!(turns.turn(1).await.is_none(), "all go on at once");
        drop(later);
        turns.is_doubted(1);
        assert!(turns.turn(1).await.is_some());
        turns.is_accepted(1);
        turns.age();
        assert!(turns.turn(1).await.is_some());
        for key in 0..2 * MAX_LINES as u64 {
            drop(turns.turn(key).await);
        }
        assert!(turns.lines.lock().len() <= MAX_LINES, "memory is bounded");
    }
}
