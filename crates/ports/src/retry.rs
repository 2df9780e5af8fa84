//! Runs a whole unit of work again when another one was first.

use std::time::Duration;

use crate::StoreError;

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
