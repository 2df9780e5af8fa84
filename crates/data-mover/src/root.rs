//! One digest that stands for a whole table: the root, which both ends of a copy compare.
//!
//! Definition, so that a stranger can compute it; all integers are little-endian:
//! 1. A **block digest** is 32 zero bytes if every byte of the block is zero, else BLAKE3 of the block.
//!    The last block may be short; only the bytes that exist are hashed.
//! 2. The block digests, in order, are cut into **groups** of 1024; the last group may be shorter.
//!    A **group digest** is 32 zero bytes if all its block digests are, else BLAKE3 of them, one after the other.
//! 3. The **root** is BLAKE3 of: the 24 ASCII bytes `sendense-digest-table-v1`, the capacity as u64,
//!    the block size as u32, and all group digests in order.
//!
//! A table that holds [`Digest::UNKNOWN`] (32 bytes 0xFF) has no root.
//!
//! Test vector: a disk of 139,264 bytes, block size 65,536, whose first block is zero, second block is
//! all 0x01 and third block (8,192 bytes) is all 0x02 has the root
//! `bb8481cf671a06164107d56545b5a411add7f0580ecffd226463bbead3435be8`.

use std::io;

use crate::digest::is_zero;
use crate::digest_table::{DIGEST_BYTES, GROUP, usize_of};
use crate::{Digest, DigestTable};

const DOMAIN: &[u8; 24] = b"sendense-digest-table-v1";

impl DigestTable {
    /// The root of all digests, capacity and block size; its module says how it is computed.
    ///
    /// Parts of the table that take no space are not read. Fails as invalid data while a block is unknown.
    pub fn root(&self) -> io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        hasher.update(&self.capacity().to_le_bytes());
        hasher.update(&self.block_size().get().to_le_bytes());
        let groups = self.block_count().div_ceil(GROUP);
        let mut raw = Vec::new();
        let mut group = 0;
        while group < groups {
            let stored = self.next_stored(group * GROUP)?.map_or(groups, |block| block / GROUP);
            for _ in group..stored {
                hasher.update(Digest::ZERO.as_bytes());
            }
            group = stored;
            if group < groups {
                let digest = self.group_digest(group, &mut raw)?;
                hasher.update(digest.as_bytes());
                group += 1;
            }
        }
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    fn group_digest(&self, group: u64, raw: &mut Vec<u8>) -> io::Result<Digest> {
        let first = group * GROUP;
        let count = (self.block_count() - first).min(GROUP);
        self.read_raw(first, usize_of(count), raw)?;
        if is_zero(raw) {
            return Ok(Digest::ZERO);
        }
        let digests = raw.chunks_exact(usize_of(DIGEST_BYTES));
        if let Some(unknown) = { digests }.position(|it| it == Digest::UNKNOWN.as_bytes()) {
            let what = format!("the digest of block {} is not known", first + unknown as u64);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Digest::from_bytes(*blake3::hash(raw).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BlockSize;

    /// The definition, word by word, with everything in memory.
    fn naive_root(capacity: u64, block_size: u32, blocks: &[Digest]) -> Digest {
        let mut all = b"sendense-digest-table-v1".to_vec();
        all.extend(capacity.to_le_bytes());
        all.extend(block_size.to_le_bytes());
        for group in blocks.chunks(1024) {
            let bytes: Vec<u8> = group.iter().flat_map(|it| *it.as_bytes()).collect();
            all.extend(Digest::of(&bytes).as_bytes());
        }
        Digest::from_bytes(*blake3::hash(&all).as_bytes())
    }

    #[test]
    fn the_documented_vector_holds() {
        let size = BlockSize::USUAL;
        let table = DigestTable::temporary(139_264, size).unwrap();
        table.set(1, Digest::of(&[1; 65_536])).unwrap();
        table.set(2, Digest::of(&[2; 8_192])).unwrap();
        let root = table.root().unwrap().to_string();
        assert_eq!(root, "bb8481cf671a06164107d56545b5a411add7f0580ecffd226463bbead3435be8");
    }

    #[test]
    fn an_unknown_block_leaves_no_root() {
        let table = DigestTable::temporary(1 << 30, BlockSize::USUAL).unwrap();
        table.root().unwrap();
        table.set(9_000, Digest::UNKNOWN).unwrap();
        let error = table.root().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "the digest of block 9000 is not known");
    }

    #[test]
    fn capacity_and_block_size_are_part_of_it() {
        let root = |capacity, size| DigestTable::temporary(capacity, size).unwrap().root().unwrap();
        let one = root(1 << 20, BlockSize::USUAL);
        assert_ne!(one, root((1 << 20) - 512, BlockSize::USUAL));
        assert_ne!(one, root(1 << 20, BlockSize::MIN));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_what_the_definition_says(
            blocks in 1_u64..5_000,
            short in 0_u64..4_096,
            set in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        ) {
            let capacity = blocks * 4_096 - short;
            let table = DigestTable::temporary(capacity, BlockSize::MIN).unwrap();
            let mut model = vec![Digest::ZERO; usize_of(blocks)];
            for (index, byte) in set {
                let block = index.index(model.len());
                model[block] = Digest::of(&[byte]);
                table.set(block as u64, model[block]).unwrap();
            }
            prop_assert_eq!(table.root().unwrap(), naive_root(capacity, 4_096, &model));
        }
    }
}
