//! Repositories: where images lie.

use crate::compression::Compression;
use crate::ids::RepositoryId;
use crate::limits::CopyCount;
use crate::time::Timestamp;

/// A directory that holds images and manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Ours.
    pub id: RepositoryId,
    /// Unique name.
    pub name: String,
    /// What it is.
    pub kind: RepositoryKind,
    /// Absolute path on the hub.
    pub path: String,
    /// What an operator may change at any time.
    pub settings: RepositorySettings,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What may be changed of a repository while points lie in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Copies to it at a time; without a limit, the hub's own one is all there is.
    pub copies: Option<CopyCount>,
    /// How points are stored that are made from now on; those that are there stay as they are.
    pub compression: Compression,
}

/// What a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepositoryKind {
    /// A directory of a file system that the hub has mounted.
    Local,
}

impl RepositoryKind {
    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Local].into_iter().find(|kind| kind.word() == word)
    }
}
