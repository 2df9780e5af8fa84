//! A chain held open: which layer and which file each byte of the disk comes from.

use std::ops::Range;

use hub_block::{BlockError, BufferPool, Extent, ExtentKind, file_extents};

use super::open_file::OpenFile;
use super::packed_grain::{PackedGrain, Unpacker};
use super::sparse_extent::{Found, SparseExtent};
use super::table_cache::TableCache;

/// All layers of a disk, newest first.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) layers: Vec<OpenLayer>,
    pub(super) size: u64,
    pub(super) cache: TableCache,
}

/// One layer: its parts in order and without gaps.
#[derive(Debug)]
pub(super) struct OpenLayer {
    pub(super) parts: Vec<Part>,
    pub(super) capacity: u64,
}

/// A part of a layer, as one line of its descriptor has it.
#[derive(Debug)]
pub(super) struct Part {
    /// Its first byte in the disk.
    pub(super) start: u64,
    /// The byte after its last one.
    pub(super) end: u64,
    pub(super) body: Body,
}

/// Where the bytes of a part are.
#[derive(Debug)]
pub(super) enum Body {
    /// Nowhere; it reads as zeroes.
    Zero,
    /// In a file as they are, from this byte on.
    Flat { file: OpenFile, at: u64 },
    /// In grains.
    Sparse(SparseExtent),
}

/// A run of bytes of the disk with one origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// 1 is the newest layer; 0 is in no layer.
    pub(super) depth: u32,
    pub(super) origin: Origin<'a>,
}

/// Where the bytes of a piece come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    Zero,
    Flat(&'a OpenFile, u64),
    Grains(&'a OpenFile, u64),
    Packed(&'a OpenFile, PackedGrain, usize),
}

/// What takes the pieces of a range one by one.
type Sink<'s, 'a> = &'s mut dyn FnMut(Piece<'a>) -> Result<(), BlockError>;

impl Image {
    /// Fills a buffer from a range that lies on the disk.
    pub(super) fn read(
        &self,
        offset: u64,
        buffer: &mut [u8],
        pool: &BufferPool,
    ) -> Result<(), BlockError> {
        let mut unpacker: Option<Unpacker> = None;
        let range = offset..offset + buffer.len() as u64;
        self.pieces(range, &mut |piece| {
            let start = usize::try_from(piece.offset - offset).unwrap_or(usize::MAX);
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX);
            let part = buffer.get_mut(start..start.saturating_add(len)).unwrap_or_default();
            match piece.origin {
                Origin::Zero => part.fill(0),
                Origin::Flat(file, at) | Origin::Grains(file, at) => file.read(at, part)?,
                Origin::Packed(file, grain, skip) => {
                    let unpacker = match &mut unpacker {
                        Some(it) if it.fits(grain.grain) => it,
                        slot => slot.insert(Unpacker::new(pool, grain.grain)),
                    };
                    unpacker.unpack(file, grain, skip, part)?;
                }
            }
            Ok(())
        })
    }

    /// Data and zeroes of a range; holes of flat files are zeroes.
    pub(super) fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        let mut extents = Vec::new();
        self.pieces(range, &mut |piece| {
            let Piece { offset, len, .. } = piece;
            match piece.origin {
                Origin::Zero => push(&mut extents, Extent { offset, len, kind: ExtentKind::Zero }),
                Origin::Grains(..) | Origin::Packed(..) => {
                    push(&mut extents, Extent { offset, len, kind: ExtentKind::Data });
                }
                Origin::Flat(file, at) => {
                    for it in file_extents(&file.file, at, len)? {
                        push(&mut extents, Extent { offset: offset + (it.offset - at), ..it });
                    }
                }
            }
            Ok(())
        })?;
        Ok(extents)
    }

    /// The parts of a range that lie in the `layers` newest layers.
    pub(super) fn areas(
        &self,
        range: Range<u64>,
        layers: u32,
    ) -> Result<Vec<Range<u64>>, BlockError> {
        let mut areas: Vec<Range<u64>> = Vec::new();
        self.pieces(range, &mut |piece| {
            let stop = piece.offset + piece.len;
            if (1..=layers).contains(&piece.depth) {
                match areas.last_mut() {
                    Some(last) if last.end == piece.offset => last.end = stop,
                    _ => areas.push(piece.offset..stop),
                }
            }
            Ok(())
        })?;
        Ok(areas)
    }

    /// Tells `sink` where a range comes from, in order, without gaps, neighbours joined.
    fn pieces<'a>(&'a self, range: Range<u64>, sink: Sink<'_, 'a>) -> Result<(), BlockError> {
        let mut pending: Option<Piece<'a>> = None;
        self.walk(0, range, &mut |next| match &mut pending {
            Some(last) if last.goes_on(&next) => {
                last.len += next.len;
                Ok(())
            }
            _ => pending.replace(next).map_or(Ok(()), &mut *sink),
        })?;
        pending.map_or(Ok(()), sink)
    }

    fn walk<'a>(
        &'a self,
        layer: usize,
        range: Range<u64>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), BlockError> {
        let capacity = self.layers.get(layer).map_or(0, |it| it.capacity);
        let inside = range.start..range.end.min(capacity);
        if let Some(opened) = self.layers.get(layer).filter(|_| !inside.is_empty()) {
            let first = opened.parts.partition_point(|it| it.end <= inside.start);
            for part in opened.parts.iter().skip(first).take_while(|it| it.start < inside.end) {
                let within = inside.start.max(part.start)..inside.end.min(part.end);
                self.walk_part(layer, part, within, sink)?;
            }
        }
        let beyond = range.start.max(capacity);
        if beyond < range.end {
            let len = range.end - beyond;
            sink(Piece { offset: beyond, len, depth: 0, origin: Origin::Zero })?;
        }
        Ok(())
    }

    fn walk_part<'a>(
        &'a self,
        layer: usize,
        part: &'a Part,
        range: Range<u64>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), BlockError> {
        let depth = u32::try_from(layer + 1).unwrap_or(u32::MAX);
        let piece = |range: Range<u64>, origin| Piece {
            offset: range.start,
            len: range.end - range.start,
            depth,
            origin,
        };
        let extent = match &part.body {
            Body::Zero => return sink(piece(range, Origin::Zero)),
            Body::Flat { file, at } => {
                let at = at + (range.start - part.start);
                return sink(piece(range, Origin::Flat(file, at)));
            }
            Body::Sparse(extent) => extent,
        };
        let local = range.start - part.start..range.end - part.start;
        extent.runs(&self.cache, local, &mut |run, found| {
            let range = run.start + part.start..run.end + part.start;
            match found {
                Found::Absent => self.walk(layer + 1, range, sink),
                Found::Zero => sink(piece(range, Origin::Zero)),
                Found::At(at) => sink(piece(range, Origin::Grains(&extent.file, at))),
                Found::Packed(grain, skip) => {
                    sink(piece(range, Origin::Packed(&extent.file, grain, skip)))
                }
            }
        })
    }
}

impl Piece<'_> {
    /// Whether the next piece is this one's continuation, in the disk and in the file.
    fn goes_on(&self, next: &Self) -> bool {
        let follows = |mine: u64, theirs: u64| mine + self.len == theirs;
        let same_place = match (self.origin, next.origin) {
            (Origin::Zero, Origin::Zero) => true,
            (Origin::Flat(mine, at), Origin::Flat(theirs, next_at))
            | (Origin::Grains(mine, at), Origin::Grains(theirs, next_at)) => {
                std::ptr::eq(mine, theirs) && follows(at, next_at)
            }
            _ => false,
        };
        same_place && self.depth == next.depth && follows(self.offset, next.offset)
    }
}

fn push(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.kind == next.kind && last.end() == next.offset => last.len += next.len,
        _ => extents.push(next),
    }
}
