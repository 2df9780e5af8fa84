//! What jobs wait for, in sentences: a hub that sees nothing move has to know that a job is alive.
//!
//! Whatever is said here has an end of its own: a call and a task have deadlines, and a job that another one waits for
//! is ended by them, by its own hub or by hand.

use std::sync::Arc;

use parking_lot::Mutex;

/// Sentences by job; cloning gives another handle to the same.
#[derive(Clone, Default)]
pub(super) struct Waits {
    said: Arc<Mutex<Vec<Sentence>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sentence {
    job_id: String,
    text: String,
}

/// Says that a job waits, until this is dropped.
#[must_use]
pub(super) struct Waiting {
    all: Waits,
    sentence: Sentence,
}

impl Waits {
    /// A job waits from now on.
    pub(super) fn say(&self, job_id: &str, text: impl Into<String>) -> Waiting {
        let sentence = Sentence { job_id: job_id.to_owned(), text: text.into() };
        self.said.lock().push(sentence.clone());
        Waiting { all: self.clone(), sentence }
    }

    /// What a job waits for; of several things, what it began to wait for last.
    pub(super) fn of(&self, job_id: &str) -> Option<String> {
        let said = self.said.lock();
        said.iter().rfind(|it| it.job_id == job_id).map(|it| it.text.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut said = self.all.said.lock();
        if let Some(at) = said.iter().rposition(|it| *it == self.sentence) {
            said.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_what_it_began_to_wait_for_last_and_only_while_it_does() {
        let waits = Waits::default();
        let outer = waits.say("one", "a place");
        let other = waits.say("two", "its turn");
        let inner = waits.say("one", "a snapshot");
        assert_eq!(waits.of("one").as_deref(), Some("a snapshot"));
        drop(inner);
        assert_eq!(waits.of("one").as_deref(), Some("a place"));
        drop(outer);
        assert_eq!((waits.of("one"), waits.of("two").as_deref()), (None, Some("its turn")));
        drop(other);
        assert_eq!(waits.of("two"), None);
    }
}
