//! How the images of a repository are stored.

/// How data clusters of new restore points are stored; digests are of the uncompressed blocks in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Zstandard, which stock qemu reads since 5.1; what does not shrink is stored as it is.
    Zstd(ZstdLevel),
}

impl Compression {
    /// The words of all kinds, in the catalogue and on the wire.
    pub const WORDS: [&'static str; 2] = ["none", "zstd"];

    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd(_) => "zstd",
        }
    }

    /// How hard it tries, where it compresses.
    pub const fn level(self) -> Option<ZstdLevel> {
        match self {
            Self::None => None,
            Self::Zstd(level) => Some(level),
        }
    }

    /// Rebuilds it from its word and its level; `None` when the word is unknown or a level stands beside `none`.
    pub fn from_parts(word: &str, level: Option<ZstdLevel>) -> Option<Self> {
        match (word, level) {
            ("none", None) => Some(Self::None),
            ("zstd", level) => Some(Self::Zstd(level.unwrap_or_default())),
            _ => None,
        }
    }
}

/// How hard Zstandard tries: 1 is fastest, 19 smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZstdLevel(u8);

impl ZstdLevel {
    /// The hardest level; those beyond it need more memory to be read than a reader must have.
    pub const MAX: u8 = 19;

    /// A level between 1 and [`MAX`](Self::MAX).
    pub fn new(level: i64) -> Result<Self, InvalidLevel> {
        let wrong = InvalidLevel { given: level };
        let level = u8::try_from(level).map_err(|_| wrong)?;
        if (1..=Self::MAX).contains(&level) { Ok(Self(level)) } else { Err(wrong) }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for ZstdLevel {
    /// Level 3, which is qemu's own: level 1 is little faster and its images are larger.
    fn default() -> Self {
        Self(3)
    }
}

/// A level that Zstandard does not have, or that readers may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is between 1 and {}, not {given}", ZstdLevel::MAX)]
pub struct InvalidLevel {
    /// What was given.
    pub given: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_that_every_reader_takes() {
        for bad in [i64::MIN, -1, 0, 20, 22, 256 + 3] {
            assert_eq!(ZstdLevel::new(bad), Err(InvalidLevel { given: bad }));
        }
        assert_eq!(ZstdLevel::new(19).map(ZstdLevel::get), Ok(19));
    }

    #[test]
    fn what_is_stored_is_read_as_it_was() {
        let level = ZstdLevel::new(7).unwrap();
        for kind in [Compression::None, Compression::Zstd(level)] {
            assert!(Compression::WORDS.contains(&kind.word()));
            assert_eq!(Compression::from_parts(kind.word(), kind.level()), Some(kind));
        }
        assert_eq!(Compression::from_parts("none", Some(level)), None);
        assert_eq!(Compression::from_parts("lz4", None), None);
    }
}
