//! Random numbers of a campaign, all from one number that is printed.

/// How often a campaign does what it does; more than usual where there is time for it.
pub(crate) fn rounds(usual: usize) -> usize {
    number("HUB_TEST_ROUNDS").and_then(|it| usize::try_from(it).ok()).unwrap_or(usual)
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test run")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A generator whose first number is enough to do it all again.
pub(crate) struct Seed {
    first: u64,
    state: u64,
}

impl Seed {
    /// A fresh one, or the one that a failed run has printed.
    pub(crate) fn new() -> Self {
        let first = number("HUB_TEST_SEED").unwrap_or_else(rand::random);
        Self { first, state: first }
    }

    /// The number to print.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The next number: the generator "splitmix64".
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below another one.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.next() % limit).unwrap_or_default()
    }
}
