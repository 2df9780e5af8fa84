//! The data directory: one hub at a time, and the key that seals the secrets in the catalogue.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use hub_block::failpoint::{self, Point};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::umask;

/// The name of the key's file.
const KEY_FILE: &str = "secret.key";

/// The key that seals secrets.
pub(crate) struct SecretKey {
    pub(crate) bytes: [u8; 32],
    /// Made just now and not yet written.
    pub(crate) is_new: bool,
}

/// From now on, whatever this process makes is for its own user only: catalogue, images, manifests, replicas, restores.
///
/// An administrator's stricter mask stays. It is the process that is closed, and not each file, because the catalogue's
/// files are made by the database's library, and because images may lie in directories that everybody can enter.
pub(crate) fn close_to_others() {
    let others = Mode::RWXG | Mode::RWXO;
    let before = umask(others);
    umask(before | others);
}

/// Makes the directory and takes its lock, which is held until the file is closed.
pub(crate) fn prepare(data_dir: &Path) -> Result<File> {
    let cannot = || format!("the data directory {} cannot be used", data_dir.display());
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).with_context(cannot)?;
    let path = data_dir.join("hub.lock");
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.with_context(cannot)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!(
                "another hub runs on {}; stop it, or choose another data directory",
                data_dir.display()
            )
        }
        Err(error) => Err(error).with_context(cannot),
    }
}

impl SecretKey {
    /// Reads the key, or makes one in memory where there is none.
    pub(crate) fn read_or_make(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(KEY_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { bytes: rand::random(), is_new: true });
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).ok().with_context(|| {
            format!("{} holds no key: 64 hexadecimal digits are expected", path.display())
        })?;
        Ok(Self { bytes, is_new: false })
    }

    /// Reads the key of a hub that has been started before.
    pub(crate) fn read(data_dir: &Path) -> Result<Self> {
        let key = Self::read_or_make(data_dir)?;
        if key.is_new {
            bail!("no hub has been started on {}, which has no {KEY_FILE}", data_dir.display());
        }
        Ok(key)
    }

    /// Writes a new key, durably, before anything is sealed with it.
    pub(crate) fn keep(&self, data_dir: &Path) -> Result<()> {
        let path = data_dir.join(KEY_FILE);
        write_private(&path, &hex::encode(self.bytes))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Writes a file that only its owner can read: whole under another name first, so that a crash leaves no half file.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    // What lies there is of a start that was cut off, or somebody's trap: a link, or a file that others can read.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    failpoint::reach(Point::PrivateWritten)?;
    fs::rename(&partial, path)?;
    failpoint::reach(Point::PrivateNamed)?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_directory_has_one_hub() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let first = prepare(&data_dir).unwrap();
        let second = prepare(&data_dir).unwrap_err().to_string();
        assert!(second.contains("another hub runs"), "{second}");
        drop(first);
        assert!(prepare(&data_dir).is_ok());
    }

    /// A token may be wanted in a directory that others can write to.
    #[test]
    fn trap_c12_a_secret_goes_into_no_file_that_was_laid_out_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, victim) = (folder.path().join("token"), folder.path().join("victim"));
        let partial = folder.path().join("token.partial");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, &partial).unwrap();
        write_private(&secret, "hub_1").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&secret).unwrap().is_file());

        fs::write(&partial, "").unwrap();
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o666)).unwrap();
        let mut spy = File::open(&partial).unwrap();
        write_private(&secret, "hub_2").unwrap();
        let mut seen = String::new();
        spy.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "");
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "hub_2\n");
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let made = SecretKey::read_or_make(folder.path()).unwrap();
        assert!(made.is_new);
        made.keep(folder.path()).unwrap();
        let read = SecretKey::read_or_make(folder.path()).unwrap();
        assert!(!read.is_new);
        assert_eq!(read.bytes, made.bytes);
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        assert!(SecretKey::read_or_make(folder.path()).is_err());
    }
}
