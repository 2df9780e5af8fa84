//! Compressed grains: a marker with sector and length, then a zlib stream.
//!
//! Source of the format: VMware, "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse Extents";
//! the stream is RFC 1950.

use flate2::{Decompress, FlushDecompress, Status};
use hub_block::{BlockError, BufferPool, PooledBuffer};

use super::descriptor::SECTOR;
use super::field::{long, word};
use super::open_file::OpenFile;

/// Bytes of a marker: the grain's first sector of 8 bytes, the length of the stream of 4.
pub(super) const MARKER_LEN: usize = 12;

/// Where a compressed grain lies, and which one it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedGrain {
    /// Its marker, in bytes of the file.
    pub(super) at: u64,
    /// Its first byte, from the beginning of the extent.
    pub(super) start: u64,
    /// Bytes of any grain.
    pub(super) grain: usize,
    /// Bytes of it that belong to the disk.
    pub(super) used: usize,
}

/// Inflates grains one after the other, with the same memory.
pub(super) struct Unpacker {
    inflate: Decompress,
    packed: PooledBuffer,
    plain: PooledBuffer,
}

impl Unpacker {
    /// An unpacker of grains of up to `grain` bytes; a stream may be twice as long, as qemu has it.
    pub(super) fn new(pool: &BufferPool, grain: usize) -> Self {
        Self {
            inflate: Decompress::new(true),
            packed: pool.take(2 * grain + MARKER_LEN),
            plain: pool.take(grain),
        }
    }

    /// Whether its memory is enough for grains of this size.
    pub(super) fn fits(&self, grain: usize) -> bool {
        self.plain.len() >= grain
    }

    /// Writes the bytes of a grain from `skip` on; `out` ends within the part of the grain that belongs to the disk.
    pub(super) fn unpack(
        &mut self,
        file: &OpenFile,
        grain: PackedGrain,
        skip: usize,
        out: &mut [u8],
    ) -> Result<(), BlockError> {
        let len = self.read_stream(file, grain)?;
        let packed = self.packed.get(MARKER_LEN..len).unwrap_or_default();
        self.inflate.reset(true);
        let whole = skip == 0 && out.len() == grain.grain;
        let plain =
            if whole { &mut *out } else { self.plain.get_mut(..grain.grain).unwrap_or_default() };
        let ended = self.inflate.decompress(packed, plain, FlushDecompress::Finish);
        let damaged = |what: &str| Err(file.corrupt(grain.at, what));
        match ended {
            Ok(Status::StreamEnd) => (),
            Ok(Status::Ok | Status::BufError) => {
                return damaged("a compressed grain is cut off or longer than a grain");
            }
            Err(_) => return damaged("a compressed grain is damaged"),
        }
        if self.inflate.total_out() < grain.used as u64 {
            return damaged("a compressed grain is shorter than its part of the disk");
        }
        if !whole {
            let wanted = self.plain.get(skip..skip + out.len());
            out.copy_from_slice(
                wanted.ok_or_else(|| file.corrupt(grain.at, "a grain is too short"))?,
            );
        }
        Ok(())
    }

    /// Reads marker and stream; says how many bytes they have together.
    fn read_stream(&mut self, file: &OpenFile, grain: PackedGrain) -> Result<usize, BlockError> {
        // A stream begins with its sector, so one sector never reaches into the next grain.
        let rest = file.len.saturating_sub(grain.at).min(SECTOR);
        let first = usize::try_from(rest).unwrap_or(0);
        let damaged = |what: &str| file.corrupt(grain.at, what);
        let head = self.packed.get_mut(..first).unwrap_or_default();
        file.read(grain.at, head)?;
        let (Some(sector), Some(stream)) = (long(head, 0), word(head, 8)) else {
            return Err(damaged("the file ends within the marker of a grain"));
        };
        if sector.checked_mul(SECTOR) != Some(grain.start) {
            return Err(damaged("the marker belongs to another grain"));
        }
        let len = usize::try_from(stream).unwrap_or(usize::MAX).saturating_add(MARKER_LEN);
        if stream == 0 || len > 2 * grain.grain + MARKER_LEN {
            return Err(damaged("the marker of a grain has a length that makes no sense"));
        }
        if len > first {
            let rest = self.packed.get_mut(first..len).unwrap_or_default();
            file.read(grain.at + first as u64, rest)?;
        }
        Ok(len)
    }
}
