//! The manifest of a restore point: a file that proves an image, readable without this product.
//!
//! All integers are little-endian. The file is a header of `4096 × k` bytes, then the digest table,
//! and nothing after it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, the ASCII bytes `SHUBMANI` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | header length H in bytes: a multiple of 4096, at most 65,536; writers use 16,384 |
//! | 16 | 4 | identity length J in bytes, at most H − 96 |
//! | 20 | 4 | block size in bytes: a power of two from 4,096 to 16,777,216 |
//! | 24 | 8 | capacity of the disk in bytes |
//! | 32 | 32 | root of the table |
//! | 64 | 32 | BLAKE3 of the header without this field: of bytes 0 to 63, then bytes 96 to H − 1 |
//! | 96 | J | identity: a JSON object in UTF-8, see [`ManifestIdentity`]; unknown members are ignored |
//! | 96 + J | … | zero bytes up to H |
//! | H | 32 × n | table: one digest per block, n = capacity ÷ block size, rounded up |
//!
//! A block's digest is 32 zero bytes if every byte of the block is zero, else BLAKE3 of the block;
//! the last block may be short, and only the bytes that exist are hashed.
//! The **root** is BLAKE3 of the 24 ASCII bytes `sendense-digest-table-v1`, the capacity (8 bytes), the block
//! size (4 bytes) and the group digests: for each 1024 block digests in order (the last group may have
//! fewer) 32 zero bytes if all of them are zero, else BLAKE3 of the digests one after the other.
//!
//! A reader refuses a wrong magic, an unknown version, lengths out of bounds, a header digest that does not
//! match, an identity that disagrees with the header on capacity or block size, and a file that is not exactly
//! `H + 32 × n` bytes long. Every bit of the file is covered: the header by its digest, the table by the root.
//!
//! The identity's member `image_seal` proves the bytes of the image's file that the table does not speak of;
//! [`ImageSeal`](crate::ImageSeal) says how. Older manifests do not have it.
//!
//! The header is written last, after the table is durable. A file without the magic was never sealed.
//! The table's file is sparse where blocks are zero; copying it without its holes changes nothing.

mod error;
mod header;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ManifestError;
pub use header::{ManifestIdentity, ManifestParent};
pub use reader::Manifest;
pub use writer::ManifestWriter;
