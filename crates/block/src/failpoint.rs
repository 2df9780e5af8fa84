//! Named points at the durable steps, at which a test lets a debug build die, fail or wait.
//!
//! A crash campaign has to stop a program between two steps that no signal from outside can be timed for.
//! [`reach`] stands after such a step and does nothing, unless the program was armed when it started.
//! A release build has no state, no orders and no way to arm: there [`reach`] is an empty function.

mod point;

#[cfg(debug_assertions)]
mod orders;

use std::io;

pub use point::Point;

#[cfg(debug_assertions)]
pub use armed::{arm, with_orders};
#[cfg(debug_assertions)]
pub use orders::ArmError;

/// Says that a step was done; an armed program dies here, waits, or gets the error that was ordered.
///
/// An error is that of the next step: who calls treats it as if the kernel had refused to go on.
#[cfg(debug_assertions)]
pub fn reach(point: Point) -> io::Result<()> {
    armed::reach(point)
}

/// Says that a step was done; in a release build nobody listens.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_point: Point) -> io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
mod armed {
    use std::cell::RefCell;
    use std::io;
    use std::path::Path;
    use std::sync::OnceLock;

    use super::orders::{ArmError, Orders};
    use super::point::Point;

    /// The orders of this process; empty until it is armed, once, before it does anything.
    static ORDERS: OnceLock<Orders> = OnceLock::new();

    thread_local! {
        /// What a test has ordered for its own thread.
        static HERE: RefCell<Option<Orders>> = const { RefCell::new(None) };
    }

    /// Arms this process; the words are those of `docs/testing.md`: a point, an action, and which hits.
    ///
    /// With a record, the name of every point that is reached is appended to that file, a line each.
    pub fn arm(orders: &str, record: Option<&Path>) -> Result<(), ArmError> {
        let orders = Orders::parse(orders, record)?;
        ORDERS.set(orders).map_err(|_| ArmError::Twice)
    }

    /// Does some work under orders that hold for this thread only, so that tests beside it notice nothing.
    ///
    /// Orders of an outer call are forgotten.
    pub fn with_orders<T>(orders: &str, work: impl FnOnce() -> T) -> Result<T, ArmError> {
        struct Disarm;
        impl Drop for Disarm {
            fn drop(&mut self) {
                HERE.set(None);
            }
        }
        HERE.set(Some(Orders::parse(orders, None)?));
        let _disarm = Disarm;
        Ok(work())
    }

    pub(super) fn reach(point: Point) -> io::Result<()> {
        HERE.with_borrow(|here| here.as_ref().map_or(Ok(()), |orders| orders.reached(point)))?;
        ORDERS.get().map_or(Ok(()), |orders| orders.reached(point))
    }
}
