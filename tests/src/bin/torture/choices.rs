//! Every random decision of a campaign, so that a seed tells the whole sequence.

use std::time::Duration;

/// A stream of decisions that is a function of its seed: SplitMix64, after Steele, Lea and Flood.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    state: u64,
}

impl Choices {
    /// The stream of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for one step, so that what an earlier step used does not move the later ones.
    pub(crate) fn of_step(seed: u64, part: &str, step: u64) -> Self {
        let mixed = blake3::hash(format!("{seed} {part} {step}").as_bytes());
        let (first, _) = mixed.as_bytes().as_chunks::<8>();
        Self::new(first.first().map_or(seed, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Yes in one of `n` cases.
    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several; nothing of none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(of.len()).ok().filter(|count| *count > 0)?;
        of.get(usize::try_from(self.below(count)).ok()?)
    }

    /// A time up to `longest`.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.below(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_sequence() {
        let draw = |seed| {
            let mut choices = Choices::new(seed);
            [choices.next(), choices.next()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let step = |part, step| Choices::of_step(1, part, step).next();
        assert_eq!(step("kills", 3), step("kills", 3));
        assert_ne!(step("kills", 3), step("kills", 4));
        assert_ne!(step("kills", 3), step("cuts", 3));
    }
}
