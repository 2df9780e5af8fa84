//! Fits ranges to a server's block sizes.

/// The granularity and the longest request that a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grain {
    /// A power of two; offsets and lengths of requests are multiples, except at the very end.
    pub(super) minimum: u32,
    /// The longest request; a multiple of the minimum.
    pub(super) maximum: u32,
    /// The size of the export.
    pub(super) size: u64,
}

impl Grain {
    /// Whether a range can be asked for as it is.
    pub(super) fn fits(&self, offset: u64, len: u64) -> bool {
        let mask = u64::from(self.minimum) - 1;
        let end = offset + len;
        offset & mask == 0 && (end & mask == 0 || end == self.size)
    }

    /// The smallest range that can be asked for and holds this one.
    pub(super) fn widen(&self, offset: u64, len: u64) -> (u64, u64) {
        let mask = u64::from(self.minimum) - 1;
        let start = offset & !mask;
        let end = (offset + len + mask) & !mask;
        (start, end.min(self.size) - start)
    }

    /// Cuts a range into requests of at most `maximum`, on multiples of the minimum.
    pub(super) fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u32)> + use<> {
        self.pieces_of(offset, len, self.maximum)
    }

    /// As [`pieces`](Self::pieces), for requests that carry no payload and may be longer.
    pub(super) fn pieces_of(
        &self,
        offset: u64,
        len: u64,
        longest: u32,
    ) -> impl Iterator<Item = (u64, u32)> + use<> {
        let mask = u64::from(self.minimum) - 1;
        let end = offset + len;
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            // The cut lies on a multiple of the minimum, which is at most the longest request.
            let cut = ((at + u64::from(longest)) & !mask).min(end);
            let piece = (at, u32::try_from(cut - at).ok()?);
            at = cut;
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_join_to_the_range(
            shift in 0..13_u32, offset in 0..100_000_u64, len in 0..100_000_u64, blocks in 1..9_u32,
        ) {
            let minimum = 1 << shift;
            let grain = Grain { minimum, maximum: minimum * blocks, size: 1 << 40 };
            let mut at = offset;
            for (start, piece) in grain.pieces(offset, len) {
                prop_assert_eq!(start, at);
                prop_assert!(piece > 0 && piece <= grain.maximum);
                at += u64::from(piece);
                prop_assert!(at == offset + len || at % u64::from(minimum) == 0);
            }
            prop_assert_eq!(at, offset + len);
        }

        #[test]
        fn a_widened_range_fits(shift in 0..13_u32, offset in 0..9_000_u64, len in 0..9_000_u64) {
            let grain = Grain { minimum: 1 << shift, maximum: 1 << 20, size: 18_000 };
            let (start, wide) = grain.widen(offset, len);
            prop_assert!(start <= offset && start + wide >= offset + len);
            prop_assert!(grain.fits(start, wide));
            prop_assert!(wide < len + 2 * u64::from(grain.minimum));
        }
    }
}
