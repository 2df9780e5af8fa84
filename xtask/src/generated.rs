//! `gen`: documents that programs of this workspace write, so that they cannot drift from what they describe.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::workspace::{Workspace, output};

/// Options of `gen`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when a document is not what would be written.
    #[arg(long)]
    pub(crate) check: bool,
}

/// A document and the program that prints it byte for byte, relative to the directory of the built binaries.
struct Document {
    path: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

const DOCUMENTS: [Document; 3] = [
    Document { path: "docs/openapi/hub.json", program: "hub-server", arguments: &["--openapi"] },
    Document { path: "docs/schema.md", program: "examples/schema", arguments: &[] },
    Document { path: "docs/state-machines.md", program: "examples/transitions", arguments: &[] },
];

/// Writes every document, or compares it with what is there.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    let examples = DOCUMENTS.iter().filter_map(|it| it.program.strip_prefix("examples/"));
    let binaries = workspace.build_binaries(examples)?;
    let mut stale = Vec::new();
    for document in &DOCUMENTS {
        let mut program = Command::new(binaries.join(document.program));
        let text = output(program.args(document.arguments))
            .with_context(|| format!("cannot write {}", document.path))?;
        ensure!(!text.is_empty(), "{} printed nothing for {}", document.program, document.path);
        let file = workspace.root().join(document.path);
        if fs::read_to_string(&file).is_ok_and(|old| old == text) {
            continue;
        }
        stale.push(document.path);
        if !arguments.check {
            fs::create_dir_all(file.parent().context("a document lies in a directory")?)?;
            fs::write(&file, text)?;
            println!("wrote {}", document.path);
        }
    }
    if arguments.check && !stale.is_empty() {
        bail!("stale, run `cargo xtask gen`: {}", stale.join(", "));
    }
    Ok(())
}
