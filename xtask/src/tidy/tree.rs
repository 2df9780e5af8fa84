//! The texts of the checkout, read once; in tests, a handful of made-up ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Directories at the root that hold nothing written by hand; `docs/problems/target` is no build directory.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Endings of the files that rules look at; a file without an ending is a script.
const TEXTS: [&str; 8] = ["rs", "md", "toml", "json", "sh", "html", "css", "sql"];

/// Path relative to the root, with `/` between the parts, to text.
#[derive(Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every text file below `root`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        tree.descend(root, "")?;
        Ok(tree)
    }

    /// A tree for a test.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = files.iter().map(|(path, text)| (String::from(*path), String::from(*text)));
        Self { files: owned.collect() }
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a directory of this name is there.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.files.contains_key(path)
            || self
                .files
                .range(inside.clone()..)
                .next()
                .is_some_and(|(it, _)| it.starts_with(&inside))
    }

    /// Every file.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every file with this ending.
    pub(crate) fn ending(&self, ending: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(ending))
    }

    fn descend(&mut self, directory: &Path, prefix: &str) -> anyhow::Result<()> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if kind.is_dir() {
                if !SKIPPED.contains(&path.as_str()) {
                    self.descend(&entry.path(), &path)?;
                }
            } else if kind.is_file() {
                self.take(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    /// Keeps a text; anything else is remembered by name only, so that links to it hold.
    fn take(&mut self, file: &Path, path: String) -> anyhow::Result<()> {
        let ending = file.extension().and_then(|it| it.to_str());
        let is_text = ending.is_none_or(|ending| TEXTS.contains(&ending));
        let text = if is_text {
            let bytes = fs::read(file).with_context(|| format!("cannot read {path}"))?;
            String::from_utf8(bytes).unwrap_or_default()
        } else {
            String::new()
        };
        self.files.insert(path, text);
        Ok(())
    }
}
