//! The seal of an image file: digests of everything in it that the digest table does not speak of.
//!
//! The table proves what a disk reads as. Bytes of the image file that do not change that could rot unseen:
//! padding of the header, the rest of a table's last cluster, what a compressed stream ignores.
//! The **frame** of an image is every byte of its file that is not plainly a byte of the disk, and the seal
//! digests it span by span, so that a difference has an offset.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::digest_table::usize_of;

const DOMAIN: &[u8; 23] = b"sendense-image-frame-v1";
/// Most spans that a reader takes.
const MAX_SPANS: u64 = 64;
/// Most spans that are written, so that a manifest has room for the longest names and reasons, too.
const WRITTEN_SPANS: u64 = 32;
/// The smallest span in bytes.
const LEAST_SPAN: u64 = 65_536;
/// Most threads that digest one image.
const MAX_THREADS: usize = 4;

/// The length of an image file and the digests of its frame.
///
/// Definition, so that a stranger can compute it; all integers are little-endian:
/// 1. **Content** is what an L2 entry of the image with neither the zero nor the compressed flag points to, as far
///    as the disk reaches. Every other byte of the file is **frame**.
/// 2. The file is cut into **spans** of `span_bytes`, the last one may be shorter. Within a span, frame bytes
///    that are neighbours make a **piece**.
/// 3. The digest of a span is 32 zero bytes if it has no piece; else BLAKE3 of the 23 ASCII bytes
///    `sendense-image-frame-v1` and of each piece in order: its offset in the file and its length as u64, then
///    its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSeal {
    /// Length of the image's file in bytes.
    pub file_bytes: u64,
    /// Length of a span in bytes: a power of two, at least 65,536.
    pub span_bytes: u64,
    /// One digest for each span, at most 64.
    pub spans: Vec<Digest>,
}

/// Where an image is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealBroken {
    /// The file was cut, or has grown.
    #[error("the file has {found} bytes, {expected} were sealed")]
    Length {
        /// Bytes that were sealed.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Bytes changed that are not the disk's own.
    #[error(
        "tables, padding or compressed data between offset {from} and {to} are not what was sealed"
    )]
    Frame {
        /// The first byte of the span.
        from: u64,
        /// The byte after its last one.
        to: u64,
    },
}

/// Takes in the pieces of one span.
pub struct SpanDigest(Option<blake3::Hasher>);

impl SpanDigest {
    /// Begins a piece, whose bytes follow.
    pub fn piece(&mut self, piece: &Range<u64>) {
        let hasher = self.0.get_or_insert_with(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(DOMAIN);
            hasher
        });
        hasher.update(&piece.start.to_le_bytes());
        hasher.update(&(piece.end - piece.start).to_le_bytes());
    }

    /// Adds bytes of the piece that has begun.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Digest {
        self.0.map_or(Digest::ZERO, |it| Digest::from_bytes(*it.finalize().as_bytes()))
    }
}

impl ImageSeal {
    /// Digests the frame of a file; `feed` is asked for the pieces of each span, from several threads. Blocks.
    pub fn take<E: Send>(
        file_bytes: u64,
        feed: impl Fn(Range<u64>, &mut SpanDigest) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let span_bytes = file_bytes.div_ceil(WRITTEN_SPANS).next_power_of_two().max(LEAST_SPAN);
        let count = file_bytes.div_ceil(span_bytes);
        let (next, spans) = (AtomicU64::new(0), Mutex::new(vec![Digest::ZERO; usize_of(count)]));
        let work = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let span = number * span_bytes..file_bytes.min((number + 1) * span_bytes);
            let mut digest = SpanDigest(None);
            feed(span, &mut digest)?;
            spans.lock()[usize_of(number)] = digest.finish();
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MAX_THREADS).min(usize_of(count));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                // A panic in another thread goes on in this one, as if the work had been done here.
                let ended = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and(ended);
            }
            done
        })?;
        Ok(Self { file_bytes, span_bytes, spans: spans.into_inner() })
    }

    /// Compares what was sealed with what is found now.
    pub fn compare(&self, found: &Self) -> Result<(), SealBroken> {
        if self.file_bytes != found.file_bytes || self.span_bytes != found.span_bytes {
            return Err(SealBroken::Length { expected: self.file_bytes, found: found.file_bytes });
        }
        let differs = self.spans.iter().zip(&found.spans).position(|(one, other)| one != other);
        match differs {
            None => Ok(()),
            Some(number) => {
                let from = number as u64 * self.span_bytes;
                Err(SealBroken::Frame { from, to: self.file_bytes.min(from + self.span_bytes) })
            }
        }
    }

    /// Whether its numbers fit together; those of a file are not believed before.
    pub(crate) fn is_sound(&self) -> bool {
        self.span_bytes.is_power_of_two()
            && self.span_bytes >= LEAST_SPAN
            && self.file_bytes.div_ceil(self.span_bytes) == self.spans.len() as u64
            && self.spans.len() as u64 <= MAX_SPANS
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Seals a file whose frame is everything in some ranges.
    fn seal(file: &[u8], frame: &[Range<u64>]) -> ImageSeal {
        let feed = |span: Range<u64>, digest: &mut SpanDigest| {
            for piece in frame {
                let piece = piece.start.max(span.start)..piece.end.min(span.end);
                if piece.start < piece.end {
                    digest.piece(&piece);
                    digest.bytes(&file[usize_of(piece.start)..usize_of(piece.end)]);
                }
            }
            Ok::<(), Infallible>(())
        };
        ImageSeal::take(file.len() as u64, feed).unwrap_or_else(|never| match never {})
    }

    #[test]
    fn the_definition_holds() {
        let file: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0] ^ 7).collect();
        let seal = seal(&file, &[0..512, 131_000..131_080]);
        assert_eq!((seal.file_bytes, seal.span_bytes, seal.spans.len()), (200_000, 65_536, 4));
        let digest = |piece: Range<usize>| {
            let mut all = b"sendense-image-frame-v1".to_vec();
            all.extend((piece.start as u64).to_le_bytes());
            all.extend((piece.len() as u64).to_le_bytes());
            all.extend(&file[piece]);
            Digest::from_bytes(*blake3::hash(&all).as_bytes())
        };
        let one = digest(0..512);
        let cut = [digest(131_000..131_072), digest(131_072..131_080)];
        assert_eq!(seal.spans, [one, cut[0], cut[1], Digest::ZERO]);
        assert!(seal.is_sound());
    }

    #[test]
    fn a_difference_is_named_with_its_place() {
        let mut file = vec![1; 300_000];
        let frame = [0..100, 70_000..70_001, 299_999..300_000];
        let sealed = seal(&file, &frame);
        assert_eq!(sealed.compare(&seal(&file, &frame)), Ok(()));
        file[50_000] ^= 1;
        assert_eq!(sealed.compare(&seal(&file, &frame)), Ok(()), "content is the table's part");
        file[70_000] ^= 1;
        let broken = sealed.compare(&seal(&file, &frame)).unwrap_err();
        assert_eq!(broken, SealBroken::Frame { from: 65_536, to: 131_072 });
        let broken = sealed.compare(&seal(&file[..299_000], &frame)).unwrap_err();
        assert_eq!(broken, SealBroken::Length { expected: 300_000, found: 299_000 });
        // What is frame is part of the digest, not only what it holds.
        assert!(sealed.compare(&seal(&vec![1; 300_000], &[0..100, 299_998..300_000])).is_err());
    }

    #[test]
    fn a_file_of_any_length_has_few_spans() {
        for len in [0, 1, 65_536, 4 << 20, (4 << 20) + 1, 100 << 20] {
            let seal = ImageSeal::take(len, |_, _| Ok::<(), Infallible>(())).unwrap();
            assert!(seal.is_sound() && seal.spans.len() <= 32, "{len}: {seal:?}");
        }
        let mut huge = ImageSeal::take(u64::MAX / 4, |_, _| Ok::<(), Infallible>(())).unwrap();
        assert!(huge.is_sound());
        huge.span_bytes -= 1;
        assert!(!huge.is_sound());
    }

    #[test]
    fn a_failed_read_is_the_answer() {
        let fails = |span: Range<u64>, _: &mut SpanDigest| {
            if span.start == 131_072 { Err("gone") } else { Ok(()) }
        };
        assert_eq!(ImageSeal::take(300_000, fails), Err("gone"));
    }
}
