//! Problem codes and their pages: each code that the product can answer has a page, and no page is an orphan.
//!
//! The convention that makes this checkable: in product code a whole string literal of the shape `area/slug`,
//! two words of lower-case letters, digits and hyphens, is a problem code and nothing else; so is `internal`.

use std::collections::BTreeMap;

use super::source::{Source, line_of};
use super::{Finding, Tree};

const PAGES: &str = "docs/problems/";

/// Media types have the same shape.
const MEDIA: [&str; 4] = ["application", "image", "multipart", "text"];

/// The one code without an area: nobody can act on it.
const INTERNAL: &str = "internal";

/// Codes without a page, and pages without a code.
pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let codes = codes(tree);
    let mut all = Vec::new();
    for (code, (path, line)) in &codes {
        if tree.text(&page_of(code)).is_none_or(|text| text.trim().is_empty()) {
            all.push(Finding::at(path, *line, format!("`{code}` has no page {}", page_of(code))));
        }
    }
    for (path, _) in tree.ending(".md") {
        let code = path.strip_prefix(PAGES).and_then(|name| name.strip_suffix(".md"));
        if let Some(code) = code
            && code != "README"
            && !codes.contains_key(code)
        {
            all.push(Finding::in_file(path, "nothing answers this code"));
        }
    }
    all
}

fn page_of(code: &str) -> String {
    format!("{PAGES}{code}.md")
}

/// Every code of the product with the place where it is first spelled; doubles and tests have none.
fn codes(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut all = BTreeMap::new();
    let product = tree.ending(".rs").filter(|(path, _)| {
        (path.starts_with("crates/") || path.starts_with("bins/"))
            && !path.starts_with("crates/testkit/")
            && !path.contains("/tests/")
            && !path.contains("/examples/")
            && !path.ends_with("/tests.rs")
    });
    for (path, text) in product {
        let source = Source::of(text).without_tests();
        for literal in source.literals_in(&(0..text.len())).filter(|it| is_code(&it.text)) {
            let place = (path.to_owned(), line_of(text, literal.at));
            all.entry(literal.text.clone()).or_insert(place);
        }
    }
    all
}

/// `backup/no-disks`: two parts of lower-case letters, digits and hyphens.
fn is_code(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|it: char| it.is_ascii_lowercase())
            && part.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
    };
    let two = text.split_once('/');
    two.is_some_and(|(area, slug)| part(area) && part(slug) && !MEDIA.contains(&area))
        || text == INTERNAL
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! B.\nimpl Classify for E {\n    fn code(&self) -> &'static str {\n        match self {\n            \
        Self::A => \"backup/no-disks\",\n            Self::B(e) => e.code(),\n        }\n    }\n}\n\
        fn mime() -> &'static str { \"text/plain\" }\n\
        #[cfg(test)]\nmod tests { fn code() -> &'static str { \"test/only\" } }\n";

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        findings(&Tree::of(files)).into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn a_code_with_its_page_passes() {
        let files = [
            ("crates/backup/src/error.rs", SOURCE),
            ("docs/problems/backup/no-disks.md", "# No disks"),
        ];
        assert_eq!(texts(&files), [""; 0]);
    }

    #[test]
    fn a_code_without_a_page_is_named_with_its_line() {
        assert_eq!(
            texts(&[("crates/backup/src/error.rs", SOURCE)]),
            [
                "crates/backup/src/error.rs:5: `backup/no-disks` has no page docs/problems/backup/no-disks.md"
            ]
        );
    }

    #[test]
    fn a_page_without_a_code_is_an_orphan() {
        assert_eq!(
            texts(&[
                ("docs/problems/backup/gone.md", "# Gone"),
                ("docs/problems/README.md", "# Pages")
            ]),
            ["docs/problems/backup/gone.md: nothing answers this code"]
        );
    }

    #[test]
    fn doubles_and_tests_answer_no_codes() {
        let files =
            [("crates/testkit/src/error.rs", SOURCE), ("crates/a/src/error/tests.rs", SOURCE)];
        assert_eq!(texts(&files), [""; 0]);
    }

    #[test]
    fn a_code_has_two_lower_case_parts() {
        for good in ["backup/no-disks", "store/v2", "internal"] {
            assert!(is_code(good), "{good}");
        }
        for bad in [
            "backup",
            "a/b/c",
            "Text/x",
            "text/plain",
            "/x",
            "x/",
            "{}/x",
            "application/problem+json",
        ] {
            assert!(!is_code(bad), "{bad}");
        }
    }
}
