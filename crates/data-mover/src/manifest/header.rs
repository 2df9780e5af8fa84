//! The header of a manifest as bytes, and the identity in it.

use serde::{Deserialize, Serialize};

use super::ManifestError;
use crate::{BlockSize, Digest, ImageSeal};

pub(super) const MAGIC: &[u8; 8] = b"SHUBMANI";
const VERSION: u32 = 1;

/// The fields before the identity.
pub(super) const FIXED: usize = 96;
/// Where the header's own digest lies, which it does not cover.
const OWN_DIGEST: std::ops::Range<usize> = 64..96;
/// What this writer reserves.
pub(super) const WRITTEN_LEN: u32 = 16_384;
/// What a reader accepts.
const MAX_LEN: u32 = 65_536;
const STEP: u32 = 4_096;

/// Which point of which disk a manifest proves; names and ids are those of the hub that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestIdentity {
    /// The restore point.
    pub point_id: String,
    /// The VM context.
    pub vm_context_id: String,
    /// The VM's name at that time, for people.
    pub vm_name: String,
    /// The VM's id at its source.
    pub vm_id: String,
    /// The source: a vCenter or ESXi host name, or the name of a datastore folder.
    #[serde(default)]
    pub vcenter_host: String,
    /// The disk's place in the VM, from 0.
    pub disk_ordinal: u32,
    /// The hypervisor's key of the disk, such as `disk-2000`.
    pub disk_key: String,
    /// The disk's size in bytes.
    pub capacity_bytes: u64,
    /// The size of a block in bytes.
    pub block_size: u32,
    /// When the point was made, RFC 3339.
    pub created_at: String,
    /// `full` or `incremental`.
    pub backup_type: String,
    /// How the changes were found.
    pub method: String,
    /// Why that way.
    #[serde(default)]
    pub method_reason: String,
    /// The point that this one stands on; none for a full.
    #[serde(default)]
    pub parent: Option<ManifestParent>,
    /// The image's file name, relative to the manifest.
    pub image_file: String,
    /// The root of what was read at the source, computed there.
    #[serde(default)]
    pub source_root: Option<Digest>,
    /// The source's change id for the next incremental.
    #[serde(default)]
    pub change_id: Option<String>,
    /// The length of the image's file and the digests of its frame; manifests of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_seal: Option<ImageSeal>,
}

/// The point that an incremental stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestParent {
    /// Its id.
    pub point_id: String,
    /// The root of its table.
    pub root: Digest,
}

/// What the fixed fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) block_size: BlockSize,
    pub(super) capacity: u64,
    pub(super) root: Digest,
    pub(super) identity: ManifestIdentity,
}

impl Header {
    /// The header as `self.len` bytes, its digest included.
    pub(super) fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let json = serde_json::to_vec(&self.identity).map_err(ManifestError::Identity)?;
        let mut bytes = vec![0; self.len as usize];
        let room = bytes.len().saturating_sub(FIXED);
        let too_long = ManifestError::IdentityTooLong { len: json.len(), room };
        let place = bytes.get_mut(FIXED..FIXED + json.len());
        place.ok_or(too_long)?.copy_from_slice(&json);
        let json_len = u32::try_from(json.len()).unwrap_or(u32::MAX);
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..20].copy_from_slice(&json_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.block_size.get().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[32..64].copy_from_slice(self.root.as_bytes());
        let digest = own_digest(&bytes);
        bytes[OWN_DIGEST].copy_from_slice(digest.as_bytes());
        Ok(bytes)
    }

    /// How many bytes the header has, from its fixed fields.
    pub(super) fn len_of(fixed: &[u8; FIXED]) -> Result<u32, ManifestError> {
        if fixed[..8] != *MAGIC {
            return Err(ManifestError::NotAManifest);
        }
        let version = u32_at(fixed, 8);
        if version != VERSION {
            return Err(ManifestError::UnknownVersion(version));
        }
        let (header, identity) = (u32_at(fixed, 12), u32_at(fixed, 16));
        let sound = header > 0 && header <= MAX_LEN && header % STEP == 0;
        if !sound || identity as usize > header as usize - FIXED {
            return Err(ManifestError::HeaderLength { header, identity });
        }
        Ok(header)
    }

    /// Reads a whole header and believes it only if its digest matches.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (fixed, rest) =
            bytes.split_first_chunk::<FIXED>().ok_or(ManifestError::NotAManifest)?;
        let len = Self::len_of(fixed)?;
        if own_digest(bytes).as_bytes()[..] != fixed[OWN_DIGEST] {
            return Err(ManifestError::HeaderDamaged);
        }
        let identity = u32_at(fixed, 16);
        let json = rest
            .get(..identity as usize)
            .ok_or(ManifestError::HeaderLength { header: len, identity })?;
        let identity: ManifestIdentity =
            serde_json::from_slice(json).map_err(ManifestError::Identity)?;
        let mut root = [0; 32];
        root.copy_from_slice(&fixed[32..64]);
        let mut capacity = [0; 8];
        capacity.copy_from_slice(&fixed[24..32]);
        let header = Self {
            len,
            block_size: BlockSize::new(u32_at(fixed, 20))?,
            capacity: u64::from_le_bytes(capacity),
            root: Digest::from_bytes(root),
            identity,
        };
        header.check_agreement()?;
        Ok(header)
    }

    /// The identity repeats capacity and block size for readers of JSON; both have to say the same.
    pub(super) fn check_agreement(&self) -> Result<(), ManifestError> {
        if self.identity.capacity_bytes != self.capacity {
            return Err(ManifestError::Disagrees("capacity"));
        }
        if self.identity.block_size != self.block_size.get() {
            return Err(ManifestError::Disagrees("block size"));
        }
        if self.identity.image_seal.as_ref().is_some_and(|seal| !seal.is_sound()) {
            return Err(ManifestError::Disagrees("spans of the image"));
        }
        Ok(())
    }
}

fn u32_at(fixed: &[u8; FIXED], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&fixed[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn own_digest(header: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..OWN_DIGEST.start]);
    hasher.update(&header[OWN_DIGEST.end..]);
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
