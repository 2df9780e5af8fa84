//! Breaks a use case at every step: the doubles count their calls here, and one of them fails or hangs.

use std::sync::Arc;

use parking_lot::Mutex;

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The call answers with an error of its port.
    Fail,
    /// The call never answers: dropping the caller there is what a kill leaves behind.
    Hang,
}

/// Counts the calls of all doubles that share it, from 1.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<String>,
    at: Option<(usize, Break)>,
    reached: bool,
    down: Option<&'static str>,
}

/// The chosen step was to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Steps {
    /// From now on: count anew, and break at this step.
    pub fn break_at(&self, step: usize, how: Break) {
        *self.state.lock() = State { at: Some((step, how)), ..State::default() };
    }

    /// From now on every call fails whose name begins like this, until it is healed.
    pub fn take_down(&self, names: &'static str) {
        self.state.lock().down = Some(names);
    }

    /// From now on: count anew, and break nothing.
    pub fn heal(&self) {
        *self.state.lock() = State::default();
    }

    /// Whether the chosen step was reached.
    pub fn reached(&self) -> bool {
        self.state.lock().reached
    }

    /// The calls so far, by name.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    /// How often a call with this name was made.
    pub fn count(&self, name: &str) -> usize {
        self.state.lock().log.iter().filter(|it| *it == name).count()
    }

    /// Counts one call; called by the doubles.
    pub async fn pass(&self, name: &str) -> Result<(), Broken> {
        let how = {
            let mut state = self.state.lock();
            state.log.push(name.to_owned());
            let how = state.at.filter(|(step, _)| *step == state.log.len()).map(|(_, how)| how);
            state.reached |= how.is_some();
            let is_down = state.down.is_some_and(|names| name.starts_with(names));
            how.or(is_down.then_some(Break::Fail))
        };
        match how {
            None => Ok(()),
            Some(Break::Fail) => Err(Broken),
            Some(Break::Hang) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exactly_the_chosen_step_breaks() {
        let steps = Steps::default();
        steps.break_at(2, Break::Fail);
        assert_eq!(steps.pass("a").await, Ok(()));
        assert_eq!(steps.pass("b").await, Err(Broken));
        assert_eq!(steps.pass("c").await, Ok(()));
        assert!(steps.reached());
        assert_eq!(steps.log(), ["a", "b", "c"]);
    }
}
