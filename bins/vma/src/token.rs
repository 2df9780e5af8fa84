//! The token that the hub shows: read from a file, or made once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hub_block::failpoint::{self, Point};
use secrecy::{ExposeSecret, SecretString};

use crate::settings::AuthSettings;

/// The shortest token that is accepted: shorter ones can be guessed.
const MIN_LEN: usize = 16;

/// The token of this VMA.
pub(crate) struct Token {
    secret: SecretString,
    /// Made just now, so nobody has seen it.
    pub(crate) is_new: bool,
}

impl Token {
    pub(crate) fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// The token in plain text, for the one time that it is shown.
    pub(crate) fn exposed(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Reads the token, or makes one in the state directory when there is none.
pub(crate) fn read_or_make(settings: &AuthSettings, state_dir: &Path) -> Result<Token> {
    if let Some(path) = &settings.token_file {
        return read(path).with_context(|| format!("the token in {}", path.display()));
    }
    let path = state_dir.join("token");
    let made = make(state_dir, &path);
    if path.exists() {
        remove_partial_tokens(state_dir)
            .with_context(|| format!("{} cannot be tidied up", state_dir.display()))?;
    }
    match made {
        Ok(token) => Ok(token),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(&path).with_context(|| format!("the token in {}", path.display()))
        }
        Err(error) => {
            Err(error).with_context(|| format!("no token can be made in {}", state_dir.display()))
        }
    }
}

fn read(path: &Path) -> Result<Token> {
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    let plain = token.len() >= MIN_LEN && token.bytes().all(|it| it.is_ascii_graphic());
    ensure!(plain, "has at least {MIN_LEN} printable characters without spaces, on one line");
    Ok(Token { secret: SecretString::from(token), is_new: false })
}

/// Writes a new token whole under another name, then links it, so that a crash leaves no half token.
fn make(state_dir: &Path, path: &Path) -> io::Result<Token> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let token = hex::encode(rand::random::<[u8; 32]>());
    let partial = state_dir.join(format!("token.{}.partial", std::process::id()));
    let written = write_private(&partial, &token)
        .and_then(|()| failpoint::reach(Point::AgentTokenWritten))
        .and_then(|()| fs::hard_link(&partial, path))
        .and_then(|()| failpoint::reach(Point::AgentTokenNamed));
    let removed = fs::remove_file(&partial);
    match written {
        // Somebody who was faster has tidied up already.
        Err(_) if path.try_exists()? => return Err(io::ErrorKind::AlreadyExists.into()),
        written => written?,
    }
    removed?;
    fs::File::open(state_dir)?.sync_all()?;
    Ok(Token { secret: SecretString::from(token), is_new: true })
}

/// Removes what starts left that died before their end; once there is a token nobody needs another one.
fn remove_partial_tokens(state_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("token.") && name.ends_with(".partial") {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => (),
            }
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, and never into one that somebody has laid out for it.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_for_the_owner_only_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let first = read_or_make(&AuthSettings::default(), &state).unwrap();
        assert!(first.is_new && first.exposed().len() == 64);
        let mode = fs::metadata(state.join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = read_or_make(&AuthSettings::default(), &state).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.exposed(), first.exposed());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    /// Promise P2: a start that died between two steps leaves nothing that stays.
    #[test]
    fn p2_a_partial_token_of_a_start_that_died_goes_with_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("token.4711.partial");
        for _ in 0..2 {
            fs::write(&left, "half a tok").unwrap();
            read_or_make(&AuthSettings::default(), folder.path()).unwrap();
            assert!(!left.exists());
        }
    }

    #[test]
    fn trap_c12_a_token_goes_into_no_file_that_was_laid_out_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let partial = folder.path().join(format!("token.{}.partial", std::process::id()));
        std::os::unix::fs::symlink(&victim, partial).unwrap();
        assert!(read_or_make(&AuthSettings::default(), folder.path()).unwrap().is_new);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(fs::symlink_metadata(folder.path().join("token")).unwrap().is_file());
    }

    #[test]
    fn a_token_file_is_taken_as_it_is_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let settings = AuthSettings { token_file: Some(path.clone()) };
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_or_make(&settings, folder.path()).map(|it| it.exposed().to_owned())
        };
        assert_eq!(read("0123456789abcdef\n").unwrap(), "0123456789abcdef");
        for bad in ["", "short", "with a space in it", "two\nlines-of-a-token"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        fs::remove_file(&path).unwrap();
        assert!(read_or_make(&settings, folder.path()).is_err(), "a named file is never made");
    }
}
