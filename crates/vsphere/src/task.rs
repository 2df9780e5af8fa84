//! Tasks: what a method began, waited for until it ends.

use std::time::Duration;

use roxmltree::Node;
use tokio::time::Instant;

use crate::client::Client;
use crate::element::Element as _;
use crate::error::VsphereError;
use crate::fault::MethodFault;
use crate::moref::MoRef;
use crate::property::Object;
use crate::soap::NoResult;

/// How long the first look at a task is put off; doubled up to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// The longest time between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// The guest could not be brought to rest, so the snapshot is of a running guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuiesceFailed(pub String);

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Success(Option<MoRef>),
    Error(MethodFault),
}

/// The reference to the task that a method began.
pub(crate) fn begun(response: Node<'_, '_>) -> Result<MoRef, NoResult> {
    response.moref_of("returnval").ok_or_else(|| NoResult::garbled("it begins no task"))
}

impl Client {
    /// Waits until a task has ended, and answers its result where that is a reference.
    pub(crate) async fn await_task(
        &self,
        task: &MoRef,
        method: &'static str,
    ) -> Result<Option<MoRef>, VsphereError> {
        let after = self.options().task;
        let deadline = Instant::now() + after;
        let mut pause = FIRST_LOOK;
        loop {
            let paths = ["info.state", "info.result", "info.error"];
            let state = self.properties_of(task, &paths, decode).await?;
            match state {
                Some(State::Success(result)) => return Ok(result),
                Some(State::Error(fault)) => return Err(self.error_of(method, fault)),
                Some(State::Running) => {}
                None => return Err(VsphereError::NotFound(task.to_string())),
            }
            if Instant::now() + pause > deadline {
                return Err(VsphereError::TaskStuck { task: task.value.clone(), after });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}

pub(crate) fn decode(task: &Object<'_, '_>) -> Result<State, NoResult> {
    Ok(match task.text("info.state").as_deref() {
        Some("queued" | "running") => State::Running,
        Some("success") => State::Success(task.reference("info.result")),
        Some("error") => {
            let fault = task.value("info.error").and_then(MethodFault::decode_localized);
            State::Error(fault.ok_or_else(|| NoResult::garbled("the task names no fault"))?)
        }
        _ => return Err(NoResult::garbled("the task is in no state that is known")),
    })
}
