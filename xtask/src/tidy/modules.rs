//! Modules: documented, short, named for a noun; and crates with a README that is their doc.

use super::source::Source;
use super::{Finding, Tree};
use crate::workspace::Package;

/// The longest a module may be.
const LINES: usize = 400;

/// Files that are longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

/// Names that say nothing about what lies inside.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "manager", "common", "misc"];

/// Every file that breaks a rule about files.
pub(crate) fn findings(tree: &Tree, packages: &[Package]) -> Vec<Finding> {
    let mut all = size_findings(tree, LONGER);
    for (path, text) in tree.ending(".rs") {
        if !begins_with_docs(text) {
            all.push(Finding::in_file(
                path,
                "must begin with `//!` that says why the module exists",
            ));
        }
        if let Some(name) = empty_name(path) {
            all.push(Finding::in_file(
                path,
                format!("`{name}` names nothing; take a noun of docs/glossary.md"),
            ));
        }
        if path.ends_with("/lib.rs") || path.ends_with("/mod.rs") {
            all.extend(declaration_findings(path, text));
        }
    }
    for package in packages {
        all.extend(crate_findings(tree, &package.directory));
    }
    all
}

fn size_findings(tree: &Tree, longer: &[(&str, &str)]) -> Vec<Finding> {
    let mut all = Vec::new();
    let measured = tree.ending(".rs").chain(tree.ending("docs/architecture.md"));
    for (path, text) in measured {
        let lines = text.lines().count();
        let listed = longer.iter().any(|(listed, _)| *listed == path);
        if lines > LINES && !listed {
            all.push(Finding::in_file(
                path,
                format!("has {lines} lines; {LINES} fit in one sitting, so split it"),
            ));
        }
        if lines <= LINES && listed {
            all.push(Finding::in_file(
                path,
                "is listed as longer than it is; strike it from the list",
            ));
        }
    }
    for (path, reason) in longer {
        if tree.text(path).is_none() || reason.is_empty() {
            all.push(Finding::in_file(*path, "is listed as long, but is missing or has no reason"));
        }
    }
    all
}

fn begins_with_docs(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc = include_str!("))
}

fn empty_name(path: &str) -> Option<&str> {
    path.split('/').map(|part| part.trim_end_matches(".rs")).find(|part| EMPTY_NAMES.contains(part))
}

/// `lib.rs` and `mod.rs` are tables of contents: `mod`, `use`, attributes and docs.
fn declaration_findings(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::of(text);
    let code = without_attributes(source.code());
    let items: Vec<_> = code.split(';').map(str::trim).filter(|item| !item.is_empty()).collect();
    let is_plain = |item: &&str| {
        let bare = item
            .strip_prefix("pub(crate)")
            .or_else(|| item.strip_prefix("pub"))
            .unwrap_or(item)
            .trim_start();
        bare.starts_with("use ")
            || bare.starts_with("extern crate ")
            || bare.starts_with("mod ") && !bare.contains('{')
    };
    items
        .into_iter()
        .filter(|item| !is_plain(item))
        .map(|item| {
            let start: String = item.chars().take_while(|it| *it != '\n').take(60).collect();
            Finding::in_file(
                path,
                format!("only declares modules and re-exports; move `{start}` to a module"),
            )
        })
        .take(1)
        .collect()
}

fn without_attributes(code: &str) -> String {
    let mut kept = String::new();
    let mut depth = 0_usize;
    let mut rest = code.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '#' if depth == 0 && matches!(rest.peek(), Some('[' | '!')) => {
                rest.next_if_eq(&'!');
            }
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            other if depth == 0 => kept.push(other),
            _ => {}
        }
    }
    kept
}

/// A README that is the crate doc, and at most one integration-test binary.
fn crate_findings(tree: &Tree, directory: &str) -> Vec<Finding> {
    let mut all = Vec::new();
    let readme = format!("{directory}/README.md");
    if tree.text(&readme).is_none_or(|text| text.trim().is_empty()) {
        all.push(Finding::in_file(
            &readme,
            "is missing; it says what the crate does and what it never does",
        ));
    }
    let entries = ["lib.rs", "main.rs"].map(|name| format!("{directory}/src/{name}"));
    let entry = entries.iter().find_map(|path| Some((path, tree.text(path)?)));
    if let Some((path, text)) = entry
        && !text.contains("#![doc = include_str!(\"../README.md\")]")
    {
        all.push(Finding::in_file(
            path,
            "must take its doc from the README: `#![doc = include_str!(\"../README.md\")]`",
        ));
    }
    let tests = format!("{directory}/tests/");
    let binaries = tree
        .ending(".rs")
        .filter(|(path, _)| path.strip_prefix(&tests).is_some_and(|name| !name.contains('/')));
    let binaries: Vec<_> = binaries.map(|(path, _)| path).collect();
    if let [_, second, ..] = binaries.as_slice() {
        all.push(Finding::in_file(
            *second,
            "is a second integration-test binary; each costs a link",
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = "#![doc = include_str!(\"../README.md\")]\n";

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        let package = Package {
            name: "hub-a".into(),
            directory: "crates/a".into(),
            dependencies: Vec::new(),
        };
        findings(&Tree::of(files), &[package]).into_iter().map(|it| it.to_string()).collect()
    }

    fn with(path: &str, text: &str) -> Vec<String> {
        texts(&[("crates/a/README.md", "# a"), ("crates/a/src/lib.rs", DOC), (path, text)])
    }

    #[test]
    fn a_documented_crate_passes() {
        assert_eq!(with("crates/a/src/chain.rs", "//! Chains.\nfn f() {}\n"), [""; 0]);
    }

    #[test]
    fn a_module_without_docs_is_refused() {
        assert_eq!(with("crates/a/src/chain.rs", "use a::b;\n//! Late.\n").len(), 1);
        assert_eq!(with("crates/a/src/chain.rs", "").len(), 1);
    }

    #[test]
    fn a_long_file_is_refused_unless_listed() {
        let long = format!("//! Long.\n{}", "// x\n".repeat(400));
        let found = with("crates/a/src/chain.rs", &long);
        assert_eq!(
            found,
            ["crates/a/src/chain.rs: has 401 lines; 400 fit in one sitting, so split it"]
        );
        let tree = Tree::of(&[("a.rs", &long), ("b.rs", "//! Short.\n")]);
        assert_eq!(size_findings(&tree, &[("a.rs", "one table")]), []);
        assert_eq!(size_findings(&tree, &[("a.rs", "one table"), ("b.rs", "why")]).len(), 1);
        assert_eq!(size_findings(&tree, &[("a.rs", "one table"), ("gone.rs", "why")]).len(), 1);
    }

    #[test]
    fn a_name_that_says_nothing_is_refused() {
        for path in ["crates/a/src/utils.rs", "crates/a/src/common/x.rs", "crates/a/src/manager.rs"]
        {
            assert_eq!(with(path, "//! X.\n").len(), 1, "{path}");
        }
        assert_eq!(with("crates/a/src/commonplace.rs", "//! X.\n"), [""; 0]);
    }

    #[test]
    fn lib_only_declares() {
        let good = format!(
            "{DOC}#![expect(a, reason = \"b;c\")]\nmod a;\n#[cfg(test)]\nmod tests;\npub use a::{{B, C}};\npub mod d;\n"
        );
        assert_eq!(
            texts(&[("crates/a/README.md", "# a"), ("crates/a/src/lib.rs", &good)]),
            [""; 0]
        );
        for bad in
            ["fn f() {}", "mod inner { }", "pub const X: u8 = 1;", "macro_rules! m { () => {}; }"]
        {
            let text = format!("{DOC}mod a;\n{bad}\n");
            let found = texts(&[("crates/a/README.md", "# a"), ("crates/a/src/lib.rs", &text)]);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
        }
    }

    #[test]
    fn the_readme_is_the_crate_doc() {
        assert_eq!(texts(&[("crates/a/src/lib.rs", DOC)]).len(), 1);
        assert_eq!(
            texts(&[("crates/a/README.md", "# a"), ("crates/a/src/lib.rs", "//! Own words.\n")])
                .len(),
            1
        );
    }

    #[test]
    fn one_integration_test_binary_is_enough() {
        let one = ("crates/a/tests/engine.rs", "//! E.\n");
        let deeper = ("crates/a/tests/engine/faults.rs", "//! F.\n");
        let two = ("crates/a/tests/more.rs", "//! M.\n");
        let readme = ("crates/a/README.md", "# a");
        let lib = ("crates/a/src/lib.rs", DOC);
        assert_eq!(texts(&[readme, lib, one, deeper]), [""; 0]);
        assert_eq!(texts(&[readme, lib, one, two]).len(), 1);
    }
}
