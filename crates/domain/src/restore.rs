//! Restores and verifications of restore points.

use crate::ids::{BackupJobId, RestoreJobId, VerificationId};
use crate::job::JobState;
use crate::time::Timestamp;

/// One restore of one disk to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreJob {
    /// Ours.
    pub id: RestoreJobId,
    /// The point restored.
    pub point: BackupJobId,
    /// What the file becomes.
    pub format: RestoreFormat,
    /// The file's name below the hub's restore directory.
    pub file_name: String,
    /// Bytes to write.
    pub bytes_total: u64,
    /// Of those, done.
    pub bytes_done: u64,
    /// Where it stands.
    pub state: JobState,
    /// Counts changes; a write names the version it has read.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// What a restored file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreFormat {
    /// The disk's bytes, as they are.
    Raw,
    /// A qcow2 image without a backing file.
    Qcow2,
    /// A VMDK descriptor with one flat extent beside it.
    Vmdk,
}

impl RestoreFormat {
    /// The word for it in the catalogue and on the wire; also the file's extension.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }

    /// The format of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Raw, Self::Qcow2, Self::Vmdk].into_iter().find(|format| format.word() == word)
    }
}

/// One verification of a point, or of a chain up to a point, against the manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Ours.
    pub id: VerificationId,
    /// The point, or the tip of the chain.
    pub point: BackupJobId,
    /// How much is verified.
    pub scope: VerificationScope,
    /// Bytes to check.
    pub bytes_total: u64,
    /// Of those, checked.
    pub bytes_done: u64,
    /// What was found so far, from the full upwards; complete when the job has succeeded.
    pub verdicts: Vec<PointVerdict>,
    /// Where the work stands: succeeded says that everything was checked, not that everything was good.
    pub state: JobState,
    /// Counts changes; a write names the version it has read.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl Verification {
    /// The first point from the full upwards that is not what its manifest says.
    pub fn first_bad(&self) -> Option<&PointVerdict> {
        self.verdicts.iter().find(|verdict| !verdict.is_good())
    }
}

/// How much is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerificationScope {
    /// Only the point, as it reads through its chain.
    Point,
    /// Every point from the full to this one.
    Chain,
}

impl VerificationScope {
    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Chain => "chain",
        }
    }

    /// The scope of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Point, Self::Chain].into_iter().find(|scope| scope.word() == word)
    }
}

/// What the verification of one point found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointVerdict {
    /// The point.
    pub point: BackupJobId,
    /// The ordinal of its disk.
    pub ordinal: u32,
    /// Blocks compared.
    pub blocks_checked: u64,
    /// Blocks that differ from the manifest, or cannot be read.
    pub bad_blocks: u64,
    /// The first of them, with their place on the disk.
    pub mismatches: Vec<Mismatch>,
    /// What is wrong with the image or the manifest as a whole, if anything.
    pub damage: Option<String>,
    /// Whether changes may be missing in it all the same: what is proven is what was stored, and its source was caught
    /// leaving out changes.
    pub suspect: bool,
}

impl PointVerdict {
    /// Whether every block is what the manifest says.
    pub fn is_good(&self) -> bool {
        self.bad_blocks == 0 && self.damage.is_none()
    }
}

/// One run of bytes that is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// What was found instead.
    pub what: String,
}
