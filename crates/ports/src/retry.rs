//! Runs a whole unit of work again when another one was first.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Classify, StoreError};

/// How often a unit of work is tried.
const ATTEMPTS: u32 = 10;

/// An error that may be a conflict of units of work.
pub trait RetryConflicts {
    /// Whether the whole unit may be tried again.
    fn is_conflict(&self) -> bool;
}

impl RetryConflicts for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict)
    }
}

/// Runs `unit` until it is done or fails with something else than a conflict; bounded, with jitter.
///
/// The unit must read everything that it decides on anew each time, and touch nothing but the catalogue.
pub async fn retry_conflicts<T, E, F, Fut>(mut unit: F) -> Result<T, E>
where
    E: RetryConflicts,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match unit().await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                let ceiling = 5_u64 << attempt.min(6);
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..=ceiling))).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Runs `unit` until it is done, through conflicts and while the database is away, for at most `patience`.
///
/// For work that has happened already and must be written down; the unit must be able to find that it was done before,
/// since a commit whose answer was lost may have been one.
pub async fn retry_patiently<T, F, Fut>(patience: Duration, mut unit: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    const PAUSE: Duration = Duration::from_secs(1);
    let began = Instant::now();
    loop {
        match retry_conflicts(&mut unit).await {
            Err(error) if error.is_transient() && began.elapsed() < patience => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_tried_again_and_other_errors_are_not() {
        let mut calls = 0;
        let done = retry_conflicts(|| {
            calls += 1;
            let result = if calls < 3 { Err(StoreError::Conflict) } else { Ok(calls) };
            async move { result }
        })
        .await;
        assert_eq!(done.ok(), Some(3));
        let mut calls = 0;
        let failed: Result<(), _> = retry_conflicts(|| {
            calls += 1;
            async { Err(StoreError::Missing("a row")) }
        })
        .await;
        assert!(failed.is_err());
        assert_eq!(calls, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_comes_back_in_time_is_waited_for() {
        let began = Instant::now();
        let away = || async move {
            if began.elapsed() < Duration::from_secs(20) {
                return Err(StoreError::Unavailable("restarting".into()));
            }
            Ok(())
        };
        assert!(retry_patiently(Duration::from_secs(5), away).await.is_err());
        assert!(retry_patiently(Duration::from_secs(60), away).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_in_the_end() {
        let mut calls = 0;
        let failed: Result<(), _> = retry_conflicts(|| {
            calls += 1;
            async { Err(StoreError::Conflict) }
        })
        .await;
        assert!(matches!(failed, Err(StoreError::Conflict)));
        assert_eq!(calls, ATTEMPTS);
    }
}
