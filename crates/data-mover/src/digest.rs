//! The digest of one block, and the two values that are not hashes: zero and unknown.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::BlockSize;

/// What a run of bytes is compared with to find out that it is zero.
static ZEROES: [u8; 4096] = [0; 4096];

/// The digest of a block: BLAKE3 of its bytes, or [`ZERO`](Self::ZERO) when every one of them is zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest; it has to be 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written as 64 hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// Every byte of the block is zero, however long the block is.
    pub const ZERO: Self = Self([0; 32]);

    /// Nobody knows the content of the block; equal to the digest of no block.
    pub const UNKNOWN: Self = Self([0xFF; 32]);

    /// The digest of a block; every byte is looked at before it is called zero.
    pub fn of(block: &[u8]) -> Self {
        if is_zero(block) { Self::ZERO } else { Self(*blake3::hash(block).as_bytes()) }
    }

    /// Takes 32 bytes as a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether every byte is zero; each one is looked at.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROES.len()).all(|chunk| *chunk == ZEROES[..chunk.len()])
}

/// The digests of consecutive blocks, the last of which may be short.
pub(crate) fn digests_of(data: &[u8], size: BlockSize) -> Vec<Digest> {
    data.chunks(size.get() as usize).map(Digest::of).collect()
}

/// As [`digests_of`], on a thread that may be kept busy, so that the ones that serve connections are not.
pub(crate) async fn digests_off_thread(
    data: Bytes,
    size: BlockSize,
) -> Result<Vec<Digest>, tokio::task::JoinError> {
    tokio::task::spawn_blocking(move || digests_of(&data, size)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trap C1: a block was called zero after five samples of it had been looked at.
    #[test]
    fn one_byte_anywhere_makes_a_block_more_than_zero() {
        for len in [1, 511, 512, 4095, 4096, 4097, 65_536] {
            let mut block = vec![0; len];
            assert_eq!(Digest::of(&block), Digest::ZERO);
            for at in (0..len).step_by(509).chain([len - 1]) {
                block[at] = 1;
                assert_eq!(Digest::of(&block).as_bytes(), blake3::hash(&block).as_bytes());
                block[at] = 0;
            }
        }
        assert_eq!(Digest::of(&[]), Digest::ZERO);
    }

    #[test]
    fn text_is_hexadecimal_both_ways() {
        let digest = Digest::of(b"abc");
        let text = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for bad in ["", "00", &text[1..], &format!("{text}0"), &text.replace('6', "x")] {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest), "{bad}");
        }
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn the_last_block_may_be_short() {
        let data = vec![3; 10_000];
        let found = digests_of(&data, BlockSize::MIN);
        let expected =
            [Digest::of(&data[..4096]), Digest::of(&data[4096..8192]), Digest::of(&data[8192..])];
        assert_eq!(found, expected);
        assert!(digests_of(&[], BlockSize::MIN).is_empty());
    }
}
