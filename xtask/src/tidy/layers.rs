//! The layer table of the architecture document, compared with what the manifests say.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Tree};
use crate::workspace::Package;

/// Where both tables stand.
const DOCUMENT: &str = "docs/architecture.md";
const LAYERS: &str = "| floor | directory |";
const FENCES: &str = "| third-party crate | only in |";

/// Every arrow that the tables do not allow, and every row that fits no crate.
pub(crate) fn findings(tree: &Tree, packages: &[Package]) -> Vec<Finding> {
    let Some(text) = tree.text(DOCUMENT) else {
        return vec![Finding::in_file(DOCUMENT, "is missing, and with it the layer table")];
    };
    let layers = match Layers::parse(text) {
        Ok(layers) => layers,
        Err(finding) => return vec![finding],
    };
    let mut all = layers.upward_arrows();
    all.extend(layers.forbidden_arrows(packages));
    all.extend(layers.strangers(packages));
    match table(text, FENCES) {
        Some(rows) => all.extend(fence_findings(&rows, packages)),
        None => {
            all.push(Finding::in_file(DOCUMENT, format!("has no table that begins `{FENCES}`")))
        }
    }
    all
}

/// What the document allows, by package name.
struct Layers {
    rows: BTreeMap<String, Layer>,
}

struct Layer {
    directory: String,
    /// `None` stands beside the house: migration, tests, developer commands.
    floor: Option<u8>,
    /// `None` is anything.
    may_use: Option<BTreeSet<String>>,
}

impl Layers {
    fn parse(text: &str) -> Result<Self, Finding> {
        let wrong = |why: String| Finding::in_file(DOCUMENT, why);
        let rows = table(text, LAYERS)
            .ok_or_else(|| wrong(format!("has no table that begins `{LAYERS}`")))?;
        let mut layers = BTreeMap::new();
        for row in rows {
            let [floor, directories, _, may_use] = row.as_slice() else {
                return Err(wrong(format!("has a layer row without four columns: {row:?}")));
            };
            let may_use = match may_use.as_str() {
                "anything" => None,
                named => Some(quoted(named).map(|name| package_of(&name)).collect()),
            };
            for directory in quoted(directories) {
                let layer = Layer {
                    floor: floor.parse().ok(),
                    may_use: may_use.clone(),
                    directory: directory.clone(),
                };
                layers.insert(package_of(&directory), layer);
            }
        }
        Ok(Self { rows: layers })
    }

    /// The table itself must go downhill, which is what keeps it free of cycles.
    fn upward_arrows(&self) -> Vec<Finding> {
        let mut all = Vec::new();
        for (name, layer) in &self.rows {
            for used in layer.may_use.iter().flatten() {
                match self.rows.get(used) {
                    None => all.push(Finding::in_file(
                        DOCUMENT,
                        format!("{name} may use {used}, which has no row"),
                    )),
                    Some(below) if layer.floor.is_some() && below.floor >= layer.floor => {
                        all.push(Finding::in_file(
                            DOCUMENT,
                            format!("{name} may use {used}, which is not below it"),
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        all
    }

    fn forbidden_arrows(&self, packages: &[Package]) -> Vec<Finding> {
        let mut all = Vec::new();
        for package in packages {
            let Some(layer) = self.rows.get(&package.name) else { continue };
            for used in package.dependencies.iter().filter(|it| self.rows.contains_key(&it.name)) {
                // Tests may reach for doubles, except on the ground floor, which knows nobody.
                let allowed = if used.is_dev() {
                    layer.floor != Some(0)
                } else {
                    layer.may_use.as_ref().is_none_or(|may| may.contains(&used.name))
                };
                if !allowed {
                    let manifest = format!("{}/Cargo.toml", package.directory);
                    let text = format!(
                        "{} -> {} is not in the layer table of {DOCUMENT}",
                        package.name, used.name
                    );
                    all.push(Finding::in_file(manifest, text));
                }
            }
        }
        all
    }

    /// Crates without a row, rows without a crate, and names that do not follow the directory.
    fn strangers(&self, packages: &[Package]) -> Vec<Finding> {
        let mut all = Vec::new();
        for package in packages {
            if package_of(&package.directory) != package.name {
                let text = format!(
                    "the package of this directory is called {}",
                    package_of(&package.directory)
                );
                all.push(Finding::in_file(format!("{}/Cargo.toml", package.directory), text));
            } else if !self.rows.contains_key(&package.name) {
                all.push(Finding::in_file(DOCUMENT, format!("`{}` has no row", package.directory)));
            }
        }
        for layer in self.rows.values() {
            if !packages.iter().any(|package| package.directory == layer.directory) {
                all.push(Finding::in_file(
                    DOCUMENT,
                    format!("`{}` has a row and no crate", layer.directory),
                ));
            }
        }
        all
    }
}

/// Third-party crates that stand only where the document says.
fn fence_findings(rows: &[Vec<String>], packages: &[Package]) -> Vec<Finding> {
    let mut all = Vec::new();
    for row in rows {
        let [fenced, normal, dev] = row.as_slice() else {
            all.push(Finding::in_file(
                DOCUMENT,
                format!("has a fence row without three columns: {row:?}"),
            ));
            continue;
        };
        let fenced: Vec<_> = quoted(fenced).collect();
        for package in packages {
            for used in package
                .dependencies
                .iter()
                .filter(|it| fenced.iter().any(|name| is_family(name, &it.name)))
            {
                let listed = |cell: &str| {
                    cell == "anything" || quoted(cell).any(|name| package_of(&name) == package.name)
                };
                if !(listed(normal) || used.is_dev() && listed(dev)) {
                    let text =
                        format!("{} may not stand here, see the fences of {DOCUMENT}", used.name);
                    all.push(Finding::in_file(format!("{}/Cargo.toml", package.directory), text));
                }
            }
        }
    }
    all
}

/// `actix` fences `actix-web`, too.
fn is_family(fenced: &str, name: &str) -> bool {
    name.strip_prefix(fenced).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// `crates/domain` is `hub-domain`; binaries and names that say `hub-` already keep theirs.
fn package_of(directory: &str) -> String {
    let name = directory.rsplit('/').next().unwrap_or(directory);
    let keeps = directory.starts_with("bins/")
        || name.starts_with("hub-")
        || name == "xtask"
        || name == "vma";
    if keeps { name.to_owned() } else { format!("hub-{name}") }
}

/// The cells of the rows beneath a header, up to the first line that is no row.
fn table(text: &str, header: &str) -> Option<Vec<Vec<String>>> {
    let rest = text.get(text.find(header)?..)?;
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    Some(
        rows.map(|row| {
            row.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect(),
    )
}

/// The words between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    const TABLES: &str = "\
| floor | directory | one line | may use |
|---|---|---|---|
| 0 | `crates/domain` | values | – |
| 1 | `crates/ports` | traits | `domain` |
| 3 | `crates/backup`, `crates/restore` | engines | `domain`, `ports` |
| – | `tests` | processes | anything |

| third-party crate | only in | also as a dev-dependency in |
|---|---|---|
| `actix` | `backup` | `ports` |
";

    fn package(directory: &str, uses: &[(&str, Option<&str>)]) -> Package {
        let dependencies = uses
            .iter()
            .map(|(name, kind)| Dependency {
                name: String::from(*name),
                kind: kind.map(String::from),
            })
            .collect();
        Package { name: package_of(directory), directory: directory.into(), dependencies }
    }

    fn house(extra: Package) -> Vec<Package> {
        let mut all: Vec<_> =
            ["crates/domain", "crates/ports", "crates/backup", "crates/restore", "tests"]
                .into_iter()
                .filter(|directory| *directory != extra.directory)
                .map(|directory| package(directory, &[]))
                .collect();
        all.push(extra);
        all
    }

    fn texts(tables: &str, extra: Package) -> Vec<String> {
        let tree = Tree::of(&[(DOCUMENT, tables)]);
        findings(&tree, &house(extra)).into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn an_arrow_of_the_table_passes() {
        let uses = [
            ("hub-domain", None),
            ("hub-ports", None),
            ("serde", None),
            ("hub-restore", Some("dev")),
        ];
        assert_eq!(texts(TABLES, package("crates/backup", &uses)), [""; 0]);
        assert_eq!(texts(TABLES, package("tests", &[("hub-backup", None)])), [""; 0]);
    }

    #[test]
    fn an_arrow_between_engines_is_refused() {
        let found = texts(TABLES, package("crates/backup", &[("hub-restore", None)]));
        assert_eq!(
            found,
            [
                "crates/backup/Cargo.toml: hub-backup -> hub-restore is not in the layer table of docs/architecture.md"
            ]
        );
    }

    #[test]
    fn the_ground_floor_knows_nobody_even_in_tests() {
        let found = texts(TABLES, package("crates/domain", &[("hub-ports", Some("dev"))]));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_fence_keeps_a_family_of_crates_in_its_place() {
        assert_eq!(texts(TABLES, package("crates/backup", &[("actix-web", None)])), [""; 0]);
        assert_eq!(texts(TABLES, package("crates/ports", &[("actix-web", Some("dev"))])), [""; 0]);
        let found = texts(TABLES, package("crates/ports", &[("actix-web", None)]));
        assert_eq!(
            found,
            [
                "crates/ports/Cargo.toml: actix-web may not stand here, see the fences of docs/architecture.md"
            ]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_named() {
        assert_eq!(
            texts(TABLES, package("crates/extra", &[])),
            ["docs/architecture.md: `crates/extra` has no row"]
        );
        let gone = TABLES.replace("`crates/ports`", "`crates/ports`, `crates/ghost`");
        assert_eq!(
            texts(&gone, package("tests", &[])),
            ["docs/architecture.md: `crates/ghost` has a row and no crate"]
        );
    }

    #[test]
    fn a_table_that_climbs_is_refused() {
        let climbing = TABLES.replace("| values | – |", "| values | `ports` |");
        assert_eq!(
            texts(&climbing, package("tests", &[])),
            ["docs/architecture.md: hub-domain may use hub-ports, which is not below it"]
        );
    }

    #[test]
    fn a_package_is_called_by_its_directory() {
        let mut odd = package("crates/ports", &[]);
        odd.name = String::from("ports");
        assert!(texts(TABLES, odd).iter().any(|text| text.contains("is called hub-ports")));
        for (directory, name) in [
            ("crates/hub-api", "hub-api"),
            ("bins/vma", "vma"),
            ("xtask", "xtask"),
            ("migration", "hub-migration"),
        ] {
            assert_eq!(package_of(directory), name);
        }
    }

    #[test]
    fn a_document_without_tables_is_a_finding() {
        assert_eq!(texts("nothing", package("tests", &[])).len(), 1);
        assert!(findings(&Tree::of(&[]), &[]).len() == 1);
    }
}
