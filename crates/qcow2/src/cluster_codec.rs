//! Compressed clusters: their bytes on the way out of the file.

use miniz_oxide::inflate::decompress_slice_iter_to_slice;
use parking_lot::Mutex;
use zstd::bulk::Decompressor;

use crate::format::CompressionType;

/// Contexts that are kept for the next cluster; so many threads unpack at once without making new ones.
const KEPT: usize = 16;

/// What is said about bytes that are no compressed cluster, or one of another length.
const BROKEN: &str = "a compressed cluster cannot be unpacked";

/// Unpacks the compressed clusters of an image; contexts are made when needed and used again.
pub(crate) struct Unpacker {
    compression: CompressionType,
    idle: Mutex<Vec<Decompressor<'static>>>,
}

impl Unpacker {
    pub(crate) fn new(compression: CompressionType) -> Self {
        Self { compression, idle: Mutex::default() }
    }

    /// Fills `cluster`, which is a whole one, from the bytes that its entry gives it in the file.
    ///
    /// Those may end with bytes of others. Fails unless they begin with exactly one cluster.
    pub(crate) fn unpack(&self, stored: &[u8], cluster: &mut [u8]) -> Result<(), &'static str> {
        match self.compression {
            CompressionType::Zstd => self.unpack_zstd(stored, cluster),
            CompressionType::Zlib => unpack_deflate(stored, cluster),
        }
    }

    fn unpack_zstd(&self, stored: &[u8], cluster: &mut [u8]) -> Result<(), &'static str> {
        let len = zstd::zstd_safe::find_frame_compressed_size(stored).map_err(|_| BROKEN)?;
        let frame = stored.get(..len).ok_or(BROKEN)?;
        let idle = self.idle.lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => Decompressor::new().map_err(|_| "there is no memory to unpack a cluster")?,
        };
        let unpacked = context.decompress_to_buffer(frame, cluster);
        let mut idle = self.idle.lock();
        if idle.len() < KEPT {
            idle.push(context);
        }
        if unpacked.is_ok_and(|len| len == cluster.len()) { Ok(()) } else { Err(BROKEN) }
    }
}

/// A raw deflate stream, without a header and a checksum; what does not fit the cluster is refused.
fn unpack_deflate(stored: &[u8], cluster: &mut [u8]) -> Result<(), &'static str> {
    let unpacked = decompress_slice_iter_to_slice(cluster, std::iter::once(stored), false, true);
    if unpacked.is_ok_and(|len| len == cluster.len()) { Ok(()) } else { Err(BROKEN) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both ways to compress refuse more and less than a cluster, a cut stream, and nothing at all.
    #[test]
    fn what_follows_a_stream_is_not_looked_at_and_its_length_is_exact() {
        let cluster: Vec<u8> = (0..4096_u32).map(|at| (at % 7).to_le_bytes()[0]).collect();
        let zstd = zstd::bulk::compress(&cluster, 1).unwrap();
        let deflate = miniz_oxide::deflate::compress_to_vec(&cluster, 6);
        for (kind, stored) in [(CompressionType::Zstd, zstd), (CompressionType::Zlib, deflate)] {
            exactly_one_cluster(kind, stored, &cluster);
        }
    }

    fn exactly_one_cluster(kind: CompressionType, mut stored: Vec<u8>, cluster: &[u8]) {
        let cut = stored.len() / 2;
        stored.extend_from_slice(b"of another cluster");
        let unpacker = Unpacker::new(kind);
        let mut unpacked = vec![9; cluster.len()];
        for _ in 0..2 {
            unpacker.unpack(&stored, &mut unpacked).unwrap();
            assert_eq!(unpacked, cluster);
        }
        assert!(unpacker.unpack(&stored, &mut vec![0; 4095]).is_err());
        assert!(unpacker.unpack(&stored, &mut vec![0; 4097]).is_err());
        assert!(unpacker.unpack(&stored[..cut], &mut unpacked).is_err());
        assert!(unpacker.unpack(&[], &mut unpacked).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_fill_the_cluster(
            mut stored in proptest::collection::vec(any::<u8>(), 0..600), framed in any::<bool>()
        ) {
            if framed && stored.len() >= 4 {
                stored[..4].copy_from_slice(&[0x28, 0xB5, 0x2F, 0xFD]);
            }
            let _ = Unpacker::new(CompressionType::Zstd).unpack(&stored, &mut [0; 512]);
        }
    }
}
