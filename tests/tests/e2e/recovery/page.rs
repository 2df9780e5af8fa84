//! The commands of a page, as they are printed, in a shell.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_tests::tool;

/// What a reader puts in place of the page's own.
pub(super) struct Values {
    pub(super) repository: PathBuf,
    pub(super) point: PathBuf,
    pub(super) out: PathBuf,
}

/// A page of sections with commands.
pub(super) struct Page {
    /// Each heading with the commands below it.
    sections: Vec<(String, String)>,
    run: RefCell<BTreeSet<String>>,
}

impl Page {
    /// Takes a page apart.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut sections: Vec<(String, String)> = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if inside && line == "```" {
                inside = false;
            } else if inside {
                let (_, commands) = sections.last_mut().context("commands before a heading")?;
                commands.push_str(line);
                commands.push('\n');
            } else if line == "```sh" {
                inside = true;
            } else if let Some(heading) = line.strip_prefix("## ") {
                sections.push((heading.to_owned(), String::new()));
            }
            ensure!(inside || line == "```" || !line.starts_with("```"), "not for a shell: {line}");
        }
        ensure!(!inside, "a block has no end");
        sections.retain(|(_, commands)| !commands.is_empty());
        Ok(Self { sections, run: RefCell::default() })
    }

    /// Runs all commands of these sections in one shell, and answers what they said.
    pub(super) fn run(&self, headings: &[&str], values: &Values) -> Result<String> {
        let mut script = String::new();
        for heading in headings {
            let found = self.sections.iter().find(|(it, _)| it == heading);
            let (heading, commands) = found.with_context(|| format!("no section `{heading}`"))?;
            script.push_str(commands);
            self.run.borrow_mut().insert(heading.clone());
        }
        for (name, value) in
            [("REPOSITORY=", &values.repository), ("OUT=", &values.out), ("POINT=", &values.point)]
        {
            script = put(&script, name, value)?;
        }
        // Whatever happens, nothing stays mounted, and the server of a mount ends with it.
        let guard =
            "trap 'umount \"$OUT/files\" \"$OUT/view\" 2>&- || :' EXIT\ntrap 'exit 9' TERM\n";
        let script = format!("set -eu\n{guard}{script}");
        tool::run("timeout", &["300", "sh", "-c", &script])
            .with_context(|| format!("following {headings:?}"))
    }

    /// Fails when the page has commands that nobody has run.
    pub(super) fn was_run(&self) -> Result<()> {
        let run = self.run.borrow();
        let left = self.sections.iter().filter(|(heading, _)| !run.contains(heading));
        let left: Vec<_> = left.map(|(heading, _)| heading).collect();
        ensure!(left.is_empty() || !may_mount()?, "not run: {left:?}");
        Ok(())
    }
}

/// Replaces the one line that gives this name a value.
fn put(script: &str, name: &str, value: &Path) -> Result<String> {
    let places = script.lines().filter(|it| it.starts_with(name)).count();
    ensure!(places == 1, "{name} is given a value {places} times");
    let line = |it: &str| {
        let own = format!("{name}'{}'\n", value.display());
        if it.starts_with(name) { own } else { format!("{it}\n") }
    };
    Ok(script.lines().map(line).collect())
}

/// Whether this process may mount; where it may not, that is said loudly, or fails where it is required.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(super) fn may_mount() -> Result<bool> {
    let id = tool::run("id", &["-u"])?;
    if id.trim() == "0" && Path::new("/dev/fuse").exists() {
        return Ok(true);
    }
    let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
    ensure!(!required, "mounting takes root and /dev/fuse, and is required");
    eprintln!("SKIPPED: mounting a point takes root and /dev/fuse");
    Ok(false)
}
