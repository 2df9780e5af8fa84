//! Counts what `cargo test` prints.

use std::fmt::Write as _;

/// How many slow test binaries the summary names.
const SLOWEST: usize = 5;

/// The sums of a run.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of failed tests, with the binary each is in.
    failures: Vec<String>,
    /// Seconds and name of every test binary.
    binaries: Vec<(f64, String)>,
    current: String,
    success: bool,
}

impl Tally {
    /// Takes one line of output into account.
    pub(crate) fn read(&mut self, line: &str) {
        let bare = line.trim();
        if let Some(binary) = binary_of(bare) {
            self.current = binary;
        } else if let Some(result) = bare.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
            if let Some(seconds) = seconds_of(result) {
                self.binaries.push((seconds, self.current.clone()));
            }
        } else if let Some(name) =
            bare.strip_prefix("test ").and_then(|it| it.strip_suffix(" ... FAILED"))
        {
            self.failures.push(format!("{name} ({})", self.current));
        }
    }

    /// Notes whether cargo itself ended well, which it does not when something fails to compile.
    pub(crate) fn ended(&mut self, success: bool) {
        self.success = success;
    }

    /// Whether every test passed and there was at least one.
    pub(crate) fn passed(&self) -> bool {
        self.success && self.failed == 0 && self.passed > 0
    }

    /// The sums in a few lines.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n{} passed, {} failed, {} ignored",
            self.passed, self.failed, self.ignored
        );
        let mut slowest = self.binaries.clone();
        slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (seconds, name) in slowest.iter().take(SLOWEST) {
            let _ = writeln!(text, "{seconds:>8.2} s  {name}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED  {failure}");
        }
        if !self.success && self.failed == 0 {
            text.push_str("cargo ended with an error before all tests ran\n");
        }
        text
    }
}

/// `Running tests/wire.rs (target/debug/deps/wire-1f)` or `Doc-tests hub_block`.
fn binary_of(line: &str) -> Option<String> {
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(format!("doc tests of {library}"));
    }
    let (source, path) = line.strip_prefix("Running ")?.split_once(" (")?;
    let file = path.trim_end_matches(')').rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    Some(format!("{name}, {source}"))
}

/// The number before a word, as in `3 passed;`.
fn count(result: &str, word: &str) -> u64 {
    let parts = result.split(['.', ';']).map(str::trim);
    parts.filter_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok()).sum()
}

fn seconds_of(result: &str) -> Option<f64> {
    result.rsplit_once("finished in ")?.1.trim_end_matches('s').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_summed_up() {
        let mut tally = Tally::default();
        for line in [
            "   Compiling hub-block v0.1.0",
            "     Running unittests src/lib.rs (target/debug/deps/hub_block-0a1b)",
            "test memory::tests::reads ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s",
            "   Doc-tests hub_block",
            "test crates/block/src/lib.rs - (line 3) ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            tally.read(line);
        }
        tally.ended(true);
        let report = tally.report();
        assert!(report.contains("13 passed, 1 failed, 1 ignored"), "{report}");
        assert!(
            report.contains(
                "    1.50 s  doc tests of hub_block\n    0.25 s  hub_block, unittests src/lib.rs"
            ),
            "{report}"
        );
        assert!(
            report.contains("FAILED  crates/block/src/lib.rs - (line 3) (doc tests of hub_block)"),
            "{report}"
        );
        assert!(!tally.passed());
    }

    #[test]
    fn a_run_without_tests_or_with_an_error_has_not_passed() {
        let mut tally = Tally::default();
        tally.ended(true);
        assert!(!tally.passed(), "a filter that matches nothing proves nothing");
        tally.read("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert!(tally.passed());
        tally.ended(false);
        assert!(!tally.passed());
        assert!(tally.report().contains("before all tests ran"));
    }
}
