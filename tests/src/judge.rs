//! Judges that are not ours: what `qemu-img`, `nbdinfo`, `nbdcopy` and a plain digest say about an image.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{sparse, tool};

/// A file with an image, and the format that it is read in; formats are never guessed.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The file; for a VMDK the one that a .vmx names.
    pub path: &'a Path,
    /// A format of qemu: `raw`, `qcow2`, `vmdk`.
    pub format: &'a str,
}

impl<'a> Image<'a> {
    /// Names an image.
    pub const fn new(path: &'a Path, format: &'a str) -> Self {
        Self { path, format }
    }

    /// Fails unless `qemu-img check` finds neither an error nor a leak.
    pub fn check(self) -> Result<()> {
        let path = self.path.display().to_string();
        let report = tool::run("qemu-img", &["check", "-f", self.format, "--output=json", &path])?;
        let report: Value = serde_json::from_str(&report)?;
        for count in ["check-errors", "corruptions", "leaks"] {
            let found = report.get(count).and_then(Value::as_u64).unwrap_or(0);
            ensure!(found == 0, "qemu-img check of {path}: {found} {count}");
        }
        Ok(())
    }

    /// Fails unless both have one size and `qemu-img compare` calls them equal.
    ///
    /// Its strict mode is no help: it also wants equal allocation, and formats differ in their clusters.
    pub fn compare(self, other: Image<'_>) -> Result<()> {
        let sizes = (self.virtual_size()?, other.virtual_size()?);
        ensure!(sizes.0 == sizes.1, "{} and {} bytes: sizes differ", sizes.0, sizes.1);
        let (left, right) = (self.path.display().to_string(), other.path.display().to_string());
        let arguments = ["compare", "-f", self.format, "-F", other.format, &left, &right];
        tool::run("qemu-img", &arguments).map(drop)
    }

    /// What `qemu-img info` says, backing files left closed.
    pub fn info(self) -> Result<Value> {
        let path = self.path.display().to_string();
        let report = tool::run("qemu-img", &["info", "-f", self.format, "--output=json", &path])?;
        Ok(serde_json::from_str(&report)?)
    }

    /// The size that a guest would see, in bytes.
    pub fn virtual_size(self) -> Result<u64> {
        let info = self.info()?;
        info.get("virtual-size").and_then(Value::as_u64).context("qemu-img tells no virtual size")
    }

    /// BLAKE3 of all bytes that a guest would read, by way of `qemu-nbd` and `nbdcopy`.
    pub fn digest(self) -> Result<blake3::Hash> {
        let path = self.path.to_str().context("the image's path is not UTF-8")?;
        let server = ["qemu-nbd", "--read-only", "-f", self.format, path];
        digest_of_copy(&[&["["], server.as_slice(), &["]"]].concat())
    }
}

/// BLAKE3 of everything that an NBD export holds, read by `nbdcopy`.
pub fn export_digest(uri: &str) -> Result<blake3::Hash> {
    digest_of_copy(&[uri])
}

/// What `nbdinfo` says about an export.
pub fn export_info(uri: &str) -> Result<ExportInfo> {
    let report: Value = serde_json::from_str(&tool::run("nbdinfo", &["--json", uri])?)?;
    let export = report.pointer("/exports/0").context("nbdinfo shows no export")?;
    let size = export.get("export-size").and_then(Value::as_u64);
    Ok(ExportInfo {
        size: size.context("nbdinfo shows no size")?,
        read_only: export.get("is_read_only").and_then(Value::as_bool) == Some(true),
    })
}

/// An export as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Bytes.
    pub size: u64,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// BLAKE3 of a file's bytes as they lie there.
pub fn file_digest(path: &Path) -> Result<blake3::Hash> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let len = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let zeros = |from, to: u64, hasher: &mut blake3::Hasher| -> Result<()> {
        hasher.update_reader(std::io::repeat(0).take(to - from))?;
        Ok(())
    };
    for range in sparse::data_ranges(&file)? {
        zeros(at, range.start, &mut hasher)?;
        (&file).seek(SeekFrom::Start(range.start))?;
        hasher.update_reader((&file).take(range.end - range.start))?;
        at = range.end;
    }
    zeros(at, len, &mut hasher)?;
    Ok(hasher.finalize())
}

/// Lets `nbdcopy` copy to a file first: to a pipe it would read and write every hole.
fn digest_of_copy(source: &[&str]) -> Result<blake3::Hash> {
    let place = tempfile::tempdir()?;
    let copy = place.path().join("copy.raw");
    let target = copy.display().to_string();
    tool::run("nbdcopy", &[&["--"], source, &[target.as_str()]].concat())?;
    file_digest(&copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(directory: &Path, name: &str, bytes: &[u8]) -> Result<std::path::PathBuf> {
        let path = directory.join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    #[test]
    fn the_judges_tell_equal_from_different() {
        if !tool::present(&tool::DISK_TOOLS).unwrap() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let bytes = vec![7; 1 << 20];
        let one = raw(place.path(), "one.raw", &bytes).unwrap();
        let mut other = bytes.clone();
        other[777_777] ^= 1;
        let other = raw(place.path(), "other.raw", &other).unwrap();
        let image = place.path().join("one.qcow2");
        let (from, to) = (one.display().to_string(), image.display().to_string());
        tool::run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &from, &to]).unwrap();

        let (one, other) = (Image::new(&one, "raw"), Image::new(&other, "raw"));
        let image = Image::new(&image, "qcow2");
        image.check().unwrap();
        image.compare(one).unwrap();
        assert!(image.compare(other).is_err());
        let longer = [bytes.as_slice(), &[0; 4096]].concat();
        let longer = raw(place.path(), "longer.raw", &longer).unwrap();
        assert!(image.compare(Image::new(&longer, "raw")).is_err());
        assert_eq!(image.virtual_size().unwrap(), 1 << 20);
        assert_eq!(image.digest().unwrap(), blake3::hash(&bytes));
        assert_eq!(file_digest(one.path).unwrap(), blake3::hash(&bytes));
        assert_ne!(other.digest().unwrap(), blake3::hash(&bytes));
    }

    #[test]
    fn a_damaged_image_does_not_pass() {
        if !tool::present(&tool::DISK_TOOLS).unwrap() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bad.qcow2");
        let name = path.display().to_string();
        tool::run("qemu-img", &["create", "-f", "qcow2", &name, "1M"]).unwrap();
        // A cluster that nothing refers to is a leak.
        let file = File::options().write(true).open(&path).unwrap();
        let refcounts = 2 * 65_536;
        std::os::unix::fs::FileExt::write_all_at(&file, &[0, 1], refcounts + 2 * 7).unwrap();
        file.set_len(8 * 65_536).unwrap();
        assert!(Image::new(&path, "qcow2").check().is_err());
    }
}
