//! Words that promise work instead of doing it, places that exist on one machine, and tasks that nobody owns.

use super::source::{Source, line_of};
use super::{Finding, Tree};

/// Notes to oneself; spelled in two halves, so that this file passes its own rule.
const NOTES: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("not yet ", "implemented"),
    concat!("for ", "now"),
];

/// Code that stands in for code, or that escapes its owner.
const CODE: [(&str, &str); 5] = [
    ("#[ignore", "a test that never runs proves nothing"),
    ("todo!", "a stub is not a feature"),
    ("unimplemented!", "a missing feature answers with an error"),
    ("tokio::spawn", "tasks belong to a supervisor or a JoinSet"),
    ("task::spawn(", "tasks belong to a supervisor or a JoinSet"),
];

/// Beginnings of paths that only one person's machine has.
const PLACES: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

/// Every word that may not stand in the tree.
pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut all = Vec::new();
    for (path, text) in tree.files() {
        for note in NOTES {
            for at in whole_words(text, note) {
                all.push(Finding::at(
                    path,
                    line_of(text, at),
                    format!("`{note}`: do it, or record it elsewhere"),
                ));
            }
        }
        for place in PLACES {
            for at in absolute_paths(text, place) {
                all.push(Finding::at(
                    path,
                    line_of(text, at),
                    format!("`{place}` exists on one machine"),
                ));
            }
        }
        if path.ends_with(".rs") {
            all.extend(code_findings(path, text));
        }
    }
    all
}

fn code_findings(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::of(text);
    let mut all = Vec::new();
    for (word, reason) in CODE {
        for (at, _) in source.code().match_indices(word) {
            if !before(text, at).is_some_and(is_word) {
                all.push(Finding::at(path, line_of(text, at), format!("`{word}`: {reason}")));
            }
        }
    }
    all
}

fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let after = text.get(at + word.len()..).and_then(|rest| rest.chars().next());
        !before(text, *at).is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// A path is absolute where nothing that belongs to a path or a URL stands before it.
fn absolute_paths<'a>(text: &'a str, place: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(place).map(|(at, _)| at).filter(|at| {
        !before(text, *at)
            .is_some_and(|it| is_word(it) || matches!(it, '.' | '/' | '-' | '}' | '*'))
    })
}

fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        findings(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn notes_to_oneself_are_refused_everywhere() {
        for note in NOTES {
            assert_eq!(count("docs/a.md", &format!("One line.\nA {note}: later.\n")), 1, "{note}");
            assert_eq!(count("crates/a/src/b.rs", &format!("// {note}\n")), 1, "{note}");
            assert_eq!(count("docs/a.md", &format!("a{note}b {note}x")), 0, "{note} inside a word");
        }
    }

    #[test]
    fn stubs_and_loose_tasks_are_refused_in_code_only() {
        for (word, _) in CODE {
            assert_eq!(count("crates/a/src/b.rs", &format!("fn f() {{ {word} }}")), 1, "{word}");
            assert_eq!(
                count("crates/a/src/b.rs", &format!("// {word}\nconst A: &str = \"{word}\";")),
                0,
                "{word}"
            );
        }
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        for place in PLACES {
            assert_eq!(count("docs/a.md", &format!("see {place}x")), 1, "{place}");
            assert_eq!(
                count("docs/a.md", &format!("`GET /api{place}x` and ../a{place}y")),
                0,
                "{place}"
            );
        }
    }

    #[test]
    fn a_finding_names_its_line() {
        let tree = Tree::of(&[("docs/a.md", concat!("One.\nTwo.\n TO", "DO\n"))]);
        assert!(findings(&tree)[0].to_string().starts_with("docs/a.md:3: "));
    }
}
