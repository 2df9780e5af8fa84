//! Backing files that are missing, swapped, renamed, cyclic or outside.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hub_tests::tool;

use crate::damage::{Chain, overwrite};
use crate::world::World;

/// The row of the scoreboard.
pub(crate) const KIND: &str = "backing file missing, swapped, renamed or cyclic";

/// What is done to a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Surgery {
    /// The image below is gone.
    MissingBase,
    /// The manifest below is gone.
    MissingBaseManifest,
    /// The manifest of the newest point is gone.
    MissingManifest,
    /// Full and incremental have each other's names.
    Swapped,
    /// The fulls of two disks have each other's names.
    SwappedDisks,
    /// The image below has another name.
    Renamed,
    /// The newest image names an image of another disk.
    OtherBase,
    /// The image below names the one above it.
    Cyclic,
    /// An image names itself.
    Itself,
    /// The newest image names a file by an absolute path.
    Absolute,
    /// The newest image names a file above the repository.
    Outside,
    /// The image below is a link to somewhere else.
    Link,
}

impl Surgery {
    /// All of it.
    pub(crate) const ALL: [Self; 12] = [
        Self::MissingBase,
        Self::MissingBaseManifest,
        Self::MissingManifest,
        Self::Swapped,
        Self::SwappedDisks,
        Self::Renamed,
        Self::OtherBase,
        Self::Cyclic,
        Self::Itself,
        Self::Absolute,
        Self::Outside,
        Self::Link,
    ];
}

/// Operates on a chain, asks for everything that could serve it, backs the VM up again, and heals the chain.
pub(crate) async fn operate(world: &mut World, chains: &[Chain], surgery: Surgery) -> Result<()> {
    let chain = chains.first().context("there is a chain")?;
    let other = chains.last().context("there is another disk")?;
    let (base, tip) = (&chain.base_image, &chain.tip_image);
    let manifest = |image: &Path| image.with_extension("manifest");
    let touched = [base.clone(), tip.clone(), other.base_image.clone()];
    let touched: Vec<PathBuf> =
        touched.iter().flat_map(|image| [image.clone(), manifest(image)]).collect();
    let sound = touched.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let aside = world.lab.folder().join("aside");
    match surgery {
        Surgery::MissingBase => fs::remove_file(base)?,
        Surgery::MissingBaseManifest => fs::remove_file(manifest(base))?,
        Surgery::MissingManifest => fs::remove_file(manifest(tip))?,
        Surgery::Swapped => swap(base, tip)?,
        Surgery::SwappedDisks => swap(base, &other.base_image)?,
        Surgery::Renamed => fs::rename(base, base.with_extension("renamed"))?,
        Surgery::OtherBase => rebase(tip, &name(&other.base_image), "qcow2")?,
        Surgery::Cyclic => rebase(base, &name(tip), "qcow2")?,
        Surgery::Itself => rebase(base, &name(base), "qcow2")?,
        Surgery::Absolute => rebase(tip, &base.display().to_string(), "qcow2")?,
        Surgery::Outside => {
            fs::copy(base, world.root.join("../outside.qcow2"))?;
            rebase(tip, "../../../outside.qcow2", "qcow2")?;
        }
        Surgery::Link => {
            fs::rename(base, &aside)?;
            std::os::unix::fs::symlink(&aside, base)?;
        }
    }
    let found = world.is_found(chain).await;
    let went_on = world.goes_on().await;
    for (path, bytes) in touched.iter().zip(&sound) {
        heal(path, bytes)?;
    }
    for left in [base.with_extension("renamed"), aside, world.root.join("../outside.qcow2")] {
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    found?;
    went_on.context("after the surgery the VM cannot be backed up")
}

fn name(image: &Path) -> String {
    image.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn swap(one: &Path, other: &Path) -> Result<()> {
    let bytes = (fs::read(one)?, fs::read(other)?);
    overwrite(one, &bytes.1)?;
    overwrite(other, &bytes.0)
}

/// Writes another backing name into a header, without a look at the file that it names.
fn rebase(image: &Path, onto: &str, format: &str) -> Result<()> {
    let image = image.display().to_string();
    let arguments = ["rebase", "-u", "-f", "qcow2", "-F", format, "-b", onto, &image];
    tool::run("qemu-img", &arguments).map(drop)
}

fn heal(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) {
        fs::remove_file(path)?;
    }
    if path.exists() {
        return overwrite(path, bytes);
    }
    Ok(fs::write(path, bytes)?)
}
