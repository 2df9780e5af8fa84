//! Which disks of a VM a request means.

use crate::disk::{DiskKey, VmDisk};

/// Which disks a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSelector {
    /// All present disks.
    All,
    /// The disk at this place.
    Ordinal(u32),
    /// The disk with this hypervisor id.
    Key(DiskKey),
}

impl DiskSelector {
    /// Reads a text: digits are an ordinal, anything else a hypervisor id.
    pub fn parse(text: &str) -> Result<Self, InvalidDiskId> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Ordinal).map_err(|_| InvalidDiskId(shown(text)));
        }
        if text.starts_with('-') {
            return Err(InvalidDiskId(shown(text)));
        }
        DiskKey::new(text).map(Self::Key).map_err(|_| InvalidDiskId(shown(text)))
    }

    /// The present disks that are meant, by ordinal; empty when there is none.
    pub fn select<'a>(&self, disks: &'a [VmDisk]) -> Vec<&'a VmDisk> {
        let mut chosen: Vec<&VmDisk> = disks
            .iter()
            .filter(|disk| disk.is_present())
            .filter(|disk| match self {
                Self::All => true,
                Self::Ordinal(ordinal) => disk.ordinal == *ordinal,
                Self::Key(key) => disk.facts.key == *key,
            })
            .collect();
        chosen.sort_by_key(|disk| disk.ordinal);
        chosen
    }
}

impl std::fmt::Display for DiskSelector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => out.write_str("all"),
            Self::Ordinal(ordinal) => ordinal.fmt(out),
            Self::Key(key) => key.fmt(out),
        }
    }
}

/// A text that can name no disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("disk_id {0} names no disk: give the ordinal (0, 1, …) or the hypervisor's id (disk-2000)")]
pub struct InvalidDiskId(pub String);

/// Cuts what is quoted back to the user.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_and_hypervisor_ids_are_told_apart() {
        assert_eq!(DiskSelector::parse("0"), Ok(DiskSelector::Ordinal(0)));
        let key = DiskKey::new("disk-2000").unwrap();
        assert_eq!(DiskSelector::parse("disk-2000"), Ok(DiskSelector::Key(key)));
        for bad in ["-1", "", "99999999999"] {
            assert!(DiskSelector::parse(bad).is_err(), "{bad}");
        }
    }
}
