//! Traps and promises are named by number, and a number that is on no list tells a reader nothing.

use std::collections::BTreeSet;

use super::source::line_of;
use super::{Finding, Tree};

/// The documents whose first column gives the numbers.
const LISTS: [&str; 2] = ["docs/traps.md", "docs/promises.md"];

/// This rule spells numbers that nobody has.
const ITSELF: &str = "xtask/src/tidy/numbers.rs";

/// Every number in the sources that neither list has.
pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let known: BTreeSet<&str> =
        LISTS.iter().filter_map(|list| tree.text(list)).flat_map(listed).collect();
    let mut all = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| *path != ITSELF) {
        for (at, number) in named(text) {
            if !known.contains(number.as_str()) {
                let what = format!("`{number}` is neither in {} nor in {}", LISTS[0], LISTS[1]);
                all.push(Finding::at(path, line_of(text, at), what));
            }
        }
    }
    all
}

/// The numbers in the first column of a document's tables.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split(", "))
}

/// Where a text names numbers: `trap D7`, `promises P2 and P5`, `fn trap_d7_…` and `fn p2_…`.
fn named(text: &str) -> Vec<(usize, String)> {
    let lower = text.to_ascii_lowercase();
    let mut all = Vec::new();
    for word in ["trap", "promise"] {
        for (at, _) in lower.match_indices(word) {
            let rest = lower.get(at + word.len()..).unwrap_or_default();
            if let Some(name) = rest.strip_prefix('_') {
                all.extend(number(name).map(|number| (at, number)));
                continue;
            }
            let list = rest.strip_prefix('s').unwrap_or(rest);
            let parts = list.split([' ', ',']).filter(|it| !it.is_empty() && *it != "and");
            let numbers = parts.map_while(number);
            all.extend(numbers.take(if list.starts_with(' ') { 9 } else { 0 }).map(|it| (at, it)));
        }
    }
    for (at, _) in lower.match_indices("fn p") {
        let name = lower.get(at + "fn ".len()..).unwrap_or_default();
        all.extend(number(name).map(|number| (at, number)));
    }
    all
}

/// The number that a text begins with: at most one letter or sign, then digits, then no more of a word.
fn number(text: &str) -> Option<String> {
    let digits = text.strip_prefix(|it: char| it.is_ascii_lowercase() || it == '#').unwrap_or(text);
    let rest = digits.trim_start_matches(|it: char| it.is_ascii_digit());
    let ends = !rest.starts_with(|it: char| it.is_ascii_alphabetic());
    let len = text.len() - rest.len();
    (rest.len() < digits.len() && ends)
        .then(|| text.get(..len).unwrap_or(text).to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAPS: (&str, &str) = ("docs/traps.md", "| trap | what |\n|---|---|\n| D7, C5 | two |\n");
    const PROMISES: (&str, &str) = ("docs/promises.md", "| P1 | durable |\n| P2 | named |\n");

    fn lines(source: &str) -> Vec<String> {
        let tree = Tree::of(&[TRAPS, PROMISES, ("crates/a/src/b.rs", source)]);
        findings(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_that_are_listed_pass() {
        let source = "//! Two disks (traps D7, C5).\n/// Trap C5: keys.\nfn trap_d7_no_index() {}\n\
            /// Promises P1 and P2, and more.\nasync fn p2_named() {}\nfn page() {}\nfn trap_door() {}\n";
        assert_eq!(lines(source), Vec::<String>::new());
    }

    #[test]
    fn numbers_of_nowhere_are_found() {
        for source in ["/// Trap D8.", "// (trap #25)", "fn trap_2_14_twins() {}", "fn p9_x() {}"] {
            assert_eq!(lines(source).len(), 1, "{source}");
        }
        assert_eq!(lines("//! A list (traps D7, D8, U1).").len(), 2);
        assert_eq!(lines("//! Promise P3 holds.").len(), 1);
    }
}
