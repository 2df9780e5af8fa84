//! Which parts of a read have arrived: a reply in chunks must bring every byte, and bring it once.

/// Disjoint runs inside a range, in order.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    runs: Vec<(u64, u64)>,
}

/// More gaps than this in one reply are a server that plays.
const MAX_RUNS: usize = 1024;

impl Coverage {
    /// Notes a run of at least one byte; false when it overlaps another one or leaves too many gaps.
    pub(super) fn add(&mut self, start: u64, len: u64) -> bool {
        let end = start + len;
        let at = self.runs.partition_point(|run| run.0 < start);
        let overlaps = (at > 0 && self.runs[at - 1].1 > start)
            || self.runs.get(at).is_some_and(|next| next.0 < end);
        if overlaps || len == 0 || self.runs.len() >= MAX_RUNS {
            return false;
        }
        let joins_next = self.runs.get(at).is_some_and(|next| next.0 == end);
        let joins_last = at > 0 && self.runs[at - 1].1 == start;
        match (joins_last, joins_next) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = end,
            (false, true) => self.runs[at].0 = start,
            (false, false) => self.runs.insert(at, (start, end)),
        }
        true
    }

    /// Whether exactly this range has arrived.
    pub(super) fn is_whole(&self, start: u64, len: u64) -> bool {
        if len == 0 { self.runs.is_empty() } else { self.runs == [(start, start + len)] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_map_of_bytes(adds in vec((0..64_usize, 0..9_usize), 0..40)) {
            let mut coverage = Coverage::default();
            let mut bytes = [false; 80];
            for (start, len) in adds {
                let place = &mut bytes[start..start + len];
                let free = len > 0 && place.iter().all(|taken| !taken);
                prop_assert_eq!(coverage.add(start as u64, len as u64), free);
                if free {
                    place.fill(true);
                }
            }
            let whole = bytes[..64].iter().all(|taken| *taken)
                && bytes[64..].iter().all(|taken| !taken);
            prop_assert_eq!(coverage.is_whole(0, 64), whole);
        }
    }

    #[test]
    fn pieces_in_any_order_make_a_whole() {
        let mut coverage = Coverage::default();
        assert!(coverage.add(20, 10) && coverage.add(0, 10));
        assert!(!coverage.is_whole(0, 30));
        assert!(coverage.add(10, 10));
        assert!(coverage.is_whole(0, 30));
        assert!(!coverage.add(29, 1));
    }
}
