#![doc = include_str!("../README.md")]

mod audit;
mod block_size;
mod checked_reader;
mod copy;
mod copy_error;
mod digest;
mod digest_table;
mod examine;
mod image_seal;
pub mod manifest;
#[cfg(test)]
mod oracle;
mod plan;
mod progress;
mod proving;
mod rate_limit;
mod root;
mod runs;
mod table_device;
mod token_bucket;
mod verify;

pub use audit::{AuditSample, audit, audit_read};
pub use block_size::{BlockSize, InvalidBlockSize};
pub use checked_reader::CheckedReader;
pub use copy::{CopyOptions, CopyOutcome, RangeObserver, copy};
pub use copy_error::CopyError;
pub use digest::{Digest, InvalidDigest};
pub use digest_table::{DigestTable, MAX_TABLE_BYTES};
pub use image_seal::{ImageSeal, SealBroken, SpanDigest};
pub use manifest::{Manifest, ManifestError, ManifestIdentity, ManifestParent, ManifestWriter};
pub use plan::CopyPlan;
pub use progress::{Progress, ProgressSnapshot};
pub use proving::ProvingDevice;
pub use rate_limit::{RateLimit, RateLimited};
pub use verify::{Found, MAX_MISMATCHES_KEPT, Mismatch, VerifyOutcome, verify};
