//! Manifests: lints are inherited, and versions and features stand in the root alone.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Finding, Tree};
use crate::workspace::Package;

const ROOT: &str = "Cargo.toml";
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Every manifest that decides something for itself.
pub(crate) fn findings(tree: &Tree, packages: &[Package]) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut used = BTreeSet::new();
    for package in packages {
        let path = format!("{}/Cargo.toml", package.directory);
        let Some(manifest) = tree.text(&path).and_then(|text| text.parse::<Table>().ok()) else {
            all.push(Finding::in_file(path, "cannot be read as TOML"));
            continue;
        };
        all.extend(member_findings(&path, &manifest, &mut used));
    }
    let root = tree.text(ROOT).and_then(|text| text.parse::<Table>().ok()).unwrap_or_default();
    for name in shared_names(&root).filter(|name| !used.contains(name)) {
        all.push(Finding::in_file(
            ROOT,
            format!("`{name}` is listed for the workspace and used by no member"),
        ));
    }
    all
}

fn member_findings(path: &str, manifest: &Table, used: &mut BTreeSet<String>) -> Vec<Finding> {
    let mut all = Vec::new();
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"))
        == Some(&Value::Boolean(true));
    if !inherits {
        all.push(Finding::in_file(path, "must inherit the lints: `[lints] workspace = true`"));
    }
    for (name, dependency) in dependencies(manifest) {
        used.insert(name.clone());
        let plain = dependency.as_table().is_some_and(|table| {
            table.get("workspace") == Some(&Value::Boolean(true))
                && table.keys().all(|key| matches!(key.as_str(), "workspace" | "optional"))
        });
        if !plain {
            let text = format!(
                "`{name}` must be `workspace = true`; versions and features stand in the root manifest"
            );
            all.push(Finding::in_file(path, text));
        }
    }
    all
}

/// Every dependency of every table, those of a target included.
fn dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = std::iter::once(manifest)
        .chain(targets.into_iter().flatten().filter_map(|(_, it)| it.as_table()));
    tables
        .flat_map(|table| TABLES.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flatten()
        .collect()
}

fn shared_names(root: &Table) -> impl Iterator<Item = String> {
    let shared =
        root.get("workspace").and_then(|it| it.get("dependencies")).and_then(Value::as_table);
    shared.into_iter().flatten().map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[dependencies]\nserde.workspace = true\n[lints]\nworkspace = true\n";
    const SHARED: &str = "[workspace.dependencies]\nserde = \"1\"\n";

    fn texts(root: &str, member: &str) -> Vec<String> {
        let tree = Tree::of(&[("Cargo.toml", root), ("crates/a/Cargo.toml", member)]);
        let package = Package {
            name: "hub-a".into(),
            directory: "crates/a".into(),
            dependencies: Vec::new(),
        };
        findings(&tree, &[package]).into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn an_inheriting_member_passes() {
        assert_eq!(texts(SHARED, GOOD), [""; 0]);
    }

    #[test]
    fn lints_must_be_inherited() {
        let found = texts(SHARED, "[dependencies]\nserde.workspace = true\n");
        assert_eq!(
            found,
            ["crates/a/Cargo.toml: must inherit the lints: `[lints] workspace = true`"]
        );
    }

    #[test]
    fn a_version_or_a_feature_of_its_own_is_refused() {
        for own in [
            "serde = \"1\"",
            "serde = { workspace = true, features = [\"rc\"] }",
            "serde = { path = \"x\" }",
        ] {
            let member = GOOD.replace("serde.workspace = true", own);
            assert_eq!(texts(SHARED, &member).len(), 1, "{own}");
        }
        let target = format!("{GOOD}[target.'cfg(unix)'.dependencies]\nserde = \"1\"\n");
        assert_eq!(texts(SHARED, &target).len(), 1);
    }

    #[test]
    fn a_shared_version_that_nobody_uses_is_named() {
        let root = format!("{SHARED}hex = \"0.4\"\n");
        assert_eq!(
            texts(&root, GOOD),
            ["Cargo.toml: `hex` is listed for the workspace and used by no member"]
        );
    }
}
