//! Repositories: where images lie.

use crate::ids::RepositoryId;
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
    /// When it was added.
    pub created_at: Timestamp,
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
