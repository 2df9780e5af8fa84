//! Processor time, as the kernel counts it for whole processes.
//!
//! What the kernel does on threads of its own, such as writing dirty pages back, is nobody's and not in it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// User and system time of a process so far, and that of its children which have ended and been waited for.
pub(crate) fn of_process(id: u32) -> Result<Duration> {
    let [own, children] = read(&id.to_string())?;
    Ok(own + children)
}

/// That of all children of this program which have ended and been waited for.
pub(crate) fn of_ended_children() -> Result<Duration> {
    let [_, children] = read("self")?;
    Ok(children)
}

fn read(process: &str) -> Result<[Duration; 2]> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    parse(&stat, rustix::param::clock_ticks_per_second())
        .with_context(|| format!("{path} is not understood"))
}

/// Own time and children's, from the line of `/proc/<id>/stat`, where each is two fields of ticks.
fn parse(stat: &str, per_second: u64) -> Option<[Duration; 2]> {
    // The name of the program comes before, in parentheses, and may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let time = |at| {
        let millis = (ticks(at)? + ticks(at + 1)?) * 1000;
        Some(Duration::from_millis(millis.checked_div(per_second)?))
    };
    Some([time(11)?, time(13)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 30 20 20 0 1 0 5 6";
        let found = parse(stat, 100).unwrap();
        assert_eq!(found, [Duration::from_secs(2), Duration::from_millis(500)]);
        assert_eq!(parse("7 (a) S 1 2", 100), None);
    }

    #[test]
    fn work_is_counted() {
        let before = of_process(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while of_process(std::process::id()).unwrap() == before {
            sum = (0..1_000_000).fold(sum, |sum, it| std::hint::black_box(sum ^ it));
        }
        of_ended_children().unwrap();
    }
}
