//! Where the built programs lie.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The path of a program of this workspace, built beside the program that asks.
///
/// Cargo tells a test only about the binaries of its own package, so others are looked for where cargo puts them:
/// the directory of a binary, and the one above that of a test. `HUB_TEST_BIN_DIR` overrides both.
pub fn binary(name: &str) -> Result<PathBuf> {
    let named = std::env::var_os("HUB_TEST_BIN_DIR").map(PathBuf::from);
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let places = named.into_iter().chain(own.ancestors().skip(1).take(2).map(Path::to_owned));
    let mut tried = Vec::new();
    for place in places {
        let path = place.join(name);
        if path.is_file() {
            return Ok(path);
        }
        tried.push(place.display().to_string());
    }
    bail!(
        "`{name}` is not built; run `cargo build --workspace --bins` (looked in {})",
        tried.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_program_is_answered_with_what_builds_it() {
        let error = binary("no-such-program").unwrap_err().to_string();
        assert!(error.contains("cargo build --workspace --bins"), "{error}");
    }
}
