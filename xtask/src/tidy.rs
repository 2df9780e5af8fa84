//! `tidy`: the rules of the house that no compiler knows, as pure functions over the tree.
//!
//! Every rule is a function from texts to findings, so each has a test that shows it fire.

mod layers;
mod links;
mod manifests;
mod modules;
mod numbers;
mod problems;
mod source;
mod tree;
mod words;

use std::fmt;

use anyhow::ensure;

use crate::workspace::{Metadata, Workspace};
use tree::Tree;

/// One place where the tree breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    text: String,
}

impl Finding {
    fn in_file(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, text: text.into() }
    }

    fn at(path: impl Into<String>, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.into(), line: Some(line), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}: {}", self.path, self.text),
            None => write!(out, "{}: {}", self.path, self.text),
        }
    }
}

/// Reads the tree, prints every finding and fails when there is one.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let tree = Tree::read(workspace.root())?;
    let findings = findings(&tree, &workspace.metadata()?);
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "{} findings; docs/style.md explains the rules", findings.len());
    Ok(())
}

fn findings(tree: &Tree, metadata: &Metadata) -> Vec<Finding> {
    let mut all = layers::findings(tree, &metadata.packages);
    all.extend(manifests::findings(tree, &metadata.packages));
    all.extend(modules::findings(tree, &metadata.packages));
    all.extend(numbers::findings(tree));
    all.extend(problems::findings(tree));
    all.extend(words::findings(tree));
    all.extend(links::findings(tree));
    all.sort();
    all
}
