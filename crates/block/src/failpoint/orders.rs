//! What an armed program does at which point.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use thiserror::Error;

use super::point::Point;

/// Why a program cannot be armed.
#[derive(Debug, Error)]
pub enum ArmError {
    /// A part is not `point=action`, or has an unknown action or count.
    #[error("`{0}` is no order such as image.sync=kill@2")]
    Order(String),
    /// There is no such point.
    #[error("`{0}` is no failpoint")]
    Point(String),
    /// The record cannot be written.
    #[error("the record of reached points cannot be opened")]
    Record(#[source] io::Error),
    /// Orders are given once, at the start.
    #[error("the failpoints are armed already")]
    Twice,
}

/// Everything that was ordered, with what has been counted.
#[derive(Debug)]
pub(super) struct Orders {
    orders: Vec<Order>,
    record: Option<File>,
}

#[derive(Debug)]
struct Order {
    point: Point,
    action: Action,
    when: When,
    hits: AtomicU64,
}

/// Hits are counted from 1.
#[derive(Debug)]
enum When {
    /// For this hit only.
    At(u64),
    /// For this hit and all later ones: a disk that stays full.
    From(u64),
    /// For this hit; then counting begins again, for one hit later: each try of a job fails a step further on.
    Climbing(AtomicU64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    NoSpace,
    IoError,
    Delay(Duration),
}

impl Orders {
    /// Reads orders such as `image.sync=kill@2,image.write=enospc@7+`.
    ///
    /// Actions are `kill`, `enospc`, `eio` and `delay:MILLISECONDS`. `@N` is for the N-th hit, the first unless
    /// said; `@N+` is for all later ones, too; after `@N..` counting begins again, for the N+1-th hit.
    pub(super) fn parse(text: &str, record: Option<&Path>) -> Result<Self, ArmError> {
        let orders =
            text.split(',').filter(|it| !it.is_empty()).map(order).collect::<Result<_, _>>()?;
        let append = |path| OpenOptions::new().create(true).append(true).open(path);
        let record = record.map(append).transpose().map_err(ArmError::Record)?;
        Ok(Self { orders, record })
    }

    /// Carries out what was ordered for this hit.
    pub(super) fn reached(&self, point: Point) -> io::Result<()> {
        if let Some(mut record) = self.record.as_ref() {
            // One write of a short line to a file in append mode: lines of several threads do not mix.
            record.write_all(format!("{}\n", point.name()).as_bytes())?;
        }
        match self.due(point) {
            None => Ok(()),
            Some(Action::Kill) => die(),
            Some(Action::NoSpace) => Err(io::Error::from(rustix::io::Errno::NOSPC)),
            Some(Action::IoError) => Err(io::Error::from(rustix::io::Errno::IO)),
            Some(Action::Delay(time)) => {
                std::thread::sleep(time);
                Ok(())
            }
        }
    }

    fn due(&self, point: Point) -> Option<Action> {
        let meant = self.orders.iter().filter(|order| order.point == point);
        // Every order counts, so that several for one point do not hide each other.
        meant.fold(None, |due, order| due.or(order.is_due().then_some(order.action)))
    }
}

impl Order {
    fn is_due(&self) -> bool {
        let hit = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.when {
            When::At(meant) => hit == *meant,
            When::From(first) => hit >= *first,
            When::Climbing(meant) if hit == meant.load(Ordering::Relaxed) => {
                meant.fetch_add(1, Ordering::Relaxed);
                self.hits.store(0, Ordering::Relaxed);
                true
            }
            When::Climbing(_) => false,
        }
    }
}

fn order(text: &str) -> Result<Order, ArmError> {
    let wrong = || ArmError::Order(text.to_owned());
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let point = Point::named(name).ok_or_else(|| ArmError::Point(name.to_owned()))?;
    let (action, count) = rest.split_once('@').unwrap_or((rest, "1"));
    let number = |count: &str| count.parse().ok().filter(|hit| *hit > 0).ok_or_else(wrong);
    let when = if let Some(count) = count.strip_suffix('+') {
        When::From(number(count)?)
    } else if let Some(count) = count.strip_suffix("..") {
        When::Climbing(AtomicU64::new(number(count)?))
    } else {
        When::At(number(count)?)
    };
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        None if action == "enospc" => Action::NoSpace,
        None if action == "eio" => Action::IoError,
        Some(("delay", time)) => {
            Action::Delay(Duration::from_millis(time.parse().map_err(|_| wrong())?))
        }
        None | Some(_) => return Err(wrong()),
    };
    Ok(Order { point, action, when, hits: AtomicU64::new(0) })
}

/// As a power cut would: nothing is dropped, flushed or said.
fn die() -> ! {
    loop {
        // It cannot fail for the process itself; were it to, nothing may go on from here all the same.
        let _ = kill_process(getpid(), Signal::KILL);
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(orders: &str, hits: usize) -> Vec<Option<Action>> {
        let orders = Orders::parse(orders, None).unwrap();
        (0..hits).map(|_| orders.due(Point::ImageSync)).collect()
    }

    #[test]
    fn an_order_is_for_one_hit_unless_it_says_onwards() {
        assert_eq!(due("image.sync=kill", 2), [Some(Action::Kill), None]);
        assert_eq!(due("image.sync=eio@2", 3), [None, Some(Action::IoError), None]);
        let onwards = due("image.sync=enospc@2+", 3);
        assert_eq!(onwards, [None, Some(Action::NoSpace), Some(Action::NoSpace)]);
        let climbing = due("image.sync=eio@1..", 6).into_iter().map(|it| it.is_some());
        assert_eq!(climbing.collect::<Vec<_>>(), [true, false, true, false, false, true]);
        assert_eq!(due("image.write=kill", 2), [None, None]);
        let both = due("image.sync=eio@1,image.sync=kill@2", 2);
        assert_eq!(both, [Some(Action::IoError), Some(Action::Kill)]);
        let delay = Some(Action::Delay(Duration::from_millis(5)));
        assert_eq!(due("image.sync=delay:5", 1), [delay]);
    }

    #[test]
    fn an_ordered_error_is_the_kernels() {
        let orders = Orders::parse("image.sync=enospc@1,image.sync=eio@2", None).unwrap();
        let kinds: Vec<_> =
            (0..2).map(|_| orders.reached(Point::ImageSync).unwrap_err().raw_os_error()).collect();
        let raw = |errno: rustix::io::Errno| Some(errno.raw_os_error());
        assert_eq!(kinds, [raw(rustix::io::Errno::NOSPC), raw(rustix::io::Errno::IO)]);
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for wrong in ["image.sync", "image.sync=dance", "image.sync=kill@0", "image.sync=delay:x"] {
            assert!(matches!(Orders::parse(wrong, None), Err(ArmError::Order(_))), "{wrong}");
        }
        assert!(matches!(Orders::parse("image.fly=kill", None), Err(ArmError::Point(_))));
    }

    #[test]
    fn reached_points_are_recorded_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record");
        let orders = Orders::parse("", Some(&record)).unwrap();
        for point in [Point::ImageWrite, Point::ImageSync] {
            orders.reached(point).unwrap();
        }
        assert_eq!(std::fs::read_to_string(record).unwrap(), "image.write\nimage.sync\n");
    }
}
