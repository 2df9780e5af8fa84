//! Sparse extents made by hand, with a model of what they hold; qemu and our reader both have to agree with it.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// What a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Absent,
    Zero,
    /// Bytes that are a function of the seed and the place.
    Data(u8),
}

/// Which format, and its variable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hosted {
        grain: u64,
        table_entries: u64,
    },
    /// Compressed, with the descriptor in the file; a footer says where the directory is.
    Stream {
        footer: bool,
    },
    Cowd {
        grain: u64,
    },
    SeSparse,
}

/// An extent to make.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) kind: Kind,
    pub(super) sectors: u64,
    pub(super) cells: Vec<Cell>,
    /// Whether grains lie in the file in another order than in the disk.
    pub(super) scattered: bool,
}

pub(super) const SECTOR: u64 = 512;

impl Made {
    /// Bytes of a grain.
    pub(super) fn grain(&self) -> u64 {
        match self.kind {
            Kind::Hosted { grain, .. } | Kind::Cowd { grain } => grain,
            Kind::Stream { .. } => 65_536,
            Kind::SeSparse => 4096,
        }
    }

    /// The name of the line's type in a descriptor.
    pub(super) fn line_type(&self) -> &'static str {
        match self.kind {
            Kind::Hosted { .. } | Kind::Stream { .. } => "SPARSE",
            Kind::Cowd { .. } => "VMFSSPARSE",
            Kind::SeSparse => "SESPARSE",
        }
    }

    /// What the disk holds after this extent was laid over it.
    pub(super) fn apply(&self, disk: &mut [u8]) -> Result<()> {
        let grain = usize::try_from(self.grain())?;
        for (index, (cell, part)) in self.cells.iter().zip(disk.chunks_mut(grain)).enumerate() {
            match cell {
                Cell::Absent => (),
                Cell::Zero => part.fill(0),
                Cell::Data(seed) => {
                    let bytes = content(*seed, index, grain);
                    part.copy_from_slice(bytes.get(..part.len()).context("a short grain")?);
                }
            }
        }
        Ok(())
    }

    /// The bytes of the extent's file, with the descriptor where it belongs inside.
    pub(super) fn file(&self, descriptor: &str) -> Result<Vec<u8>> {
        match self.kind {
            Kind::Hosted { table_entries, .. } => self.hosted(table_entries),
            Kind::Stream { footer } => self.stream(footer, descriptor),
            Kind::Cowd { .. } => self.cowd(),
            Kind::SeSparse => self.sesparse(),
        }
    }

    /// The grains with data, in the order in which they are to lie in the file.
    fn stored(&self) -> Vec<(usize, u8)> {
        let data = self.cells.iter().enumerate().filter_map(|(index, cell)| match cell {
            Cell::Data(seed) => Some((index, *seed)),
            Cell::Absent | Cell::Zero => None,
        });
        let mut data: Vec<_> = data.collect();
        if self.scattered {
            data.sort_by_key(|(index, _)| (index.wrapping_mul(7919) % 101, *index));
        }
        data
    }

    /// Numbers of the tables that are needed.
    fn tables(&self, entries: usize) -> Vec<bool> {
        let used = |part: &[Cell]| part.iter().any(|it| *it != Cell::Absent);
        self.cells.chunks(entries).map(used).collect()
    }

    fn hosted(&self, table_entries: u64) -> Result<Vec<u8>> {
        let per_table = usize::try_from(table_entries)?;
        let directory = 21;
        let needed = self.tables(per_table);
        let mut place = directory + (needed.len() as u64 * 4).div_ceil(SECTOR);
        let mut file = self.hosted_header(per_table, directory, 1 << 2, 0)?;
        let grain = usize::try_from(self.grain())?;
        let mut tables = vec![0_u64; needed.len()];
        for (table, at) in tables.iter_mut().enumerate().filter(|(it, _)| needed[*it]) {
            *at = place;
            put(&mut file, bytes(directory) + table * 4, &small(place)?);
            place += (table_entries * 4).div_ceil(SECTOR);
        }
        put(&mut file, bytes(place), &[]);
        for (index, _) in self.cells.iter().enumerate().filter(|(_, it)| **it == Cell::Zero) {
            let at = bytes(tables[index / per_table]) + index % per_table * 4;
            put(&mut file, at, &1_u32.to_le_bytes());
        }
        for (index, seed) in self.stored() {
            let at = bytes(tables[index / per_table]) + index % per_table * 4;
            put(&mut file, at, &small(place)?);
            put(&mut file, bytes(place), &content(seed, index, grain));
            place += self.grain() / SECTOR;
        }
        Ok(file)
    }

    fn hosted_header(
        &self,
        entries: usize,
        directory: u64,
        flags: u32,
        method: u16,
    ) -> Result<Vec<u8>> {
        let mut head = b"KDMV".to_vec();
        head.extend(if method == 0 { 1_u32 } else { 3 }.to_le_bytes());
        head.extend((1 | flags).to_le_bytes());
        let embedded = if method == 0 { [0, 0] } else { [1, 20] };
        for field in [self.sectors, self.grain() / SECTOR].into_iter().chain(embedded) {
            head.extend(field.to_le_bytes());
        }
        head.extend(u32::try_from(entries)?.to_le_bytes());
        for field in [0, directory, 1] {
            head.extend(field.to_le_bytes());
        }
        head.extend(b"\0\n \r\n");
        head.extend(method.to_le_bytes());
        head.resize(512, 0);
        Ok(head)
    }

    /// Grains in front, each behind its marker; tables and directory behind them, as a stream is written.
    fn stream(&self, footer: bool, descriptor: &str) -> Result<Vec<u8>> {
        let flags = 1 << 16 | 1 << 17;
        let mut file = self.hosted_header(512, u64::MAX, flags, 1)?;
        file.extend(descriptor.as_bytes());
        file.resize(21 * 512, 0);
        let needed = self.tables(512);
        let mut entries = vec![0_u32; self.cells.len().next_multiple_of(512)];
        for (index, seed) in self.stored() {
            entries[index] = u32::try_from(file.len() / 512)?;
            let start = index * 65_536;
            let used = (usize::try_from(self.sectors)? * 512 - start).min(65_536);
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&content(seed, index, 65_536)[..used])?;
            let packed = encoder.finish()?;
            file.extend((start as u64 / 512).to_le_bytes());
            file.extend(u32::try_from(packed.len())?.to_le_bytes());
            file.extend(packed);
            file.resize(file.len().next_multiple_of(512), 0);
        }
        let mut directory = Vec::new();
        for (table, part) in entries.chunks(512).enumerate() {
            let used = needed.get(table) == Some(&true);
            marker(&mut file, 4, 1);
            directory.extend(u32::try_from(if used { file.len() / 512 } else { 0 })?.to_le_bytes());
            part.iter().for_each(|it| file.extend(it.to_le_bytes()));
        }
        directory.resize(directory.len().next_multiple_of(512), 0);
        marker(&mut file, directory.len() as u64 / 512, 2);
        let directory_at = file.len() as u64 / 512;
        file.extend(directory);
        let header = self.hosted_header(512, directory_at, flags, 1)?;
        if footer {
            marker(&mut file, 1, 3);
            file.extend(&header);
        } else {
            put(&mut file, 0, &header);
        }
        marker(&mut file, 0, 0);
        Ok(file)
    }

    fn cowd(&self) -> Result<Vec<u8>> {
        let needed = self.tables(4096);
        let mut place = 4 + (needed.len() as u64 * 4).div_ceil(SECTOR);
        let mut file = b"COWD".to_vec();
        for field in [1, 3, self.sectors, self.grain() / SECTOR, 4, needed.len() as u64, 0] {
            file.extend(small(field)?);
        }
        let mut tables = vec![0_u64; needed.len()];
        for (table, at) in tables.iter_mut().enumerate().filter(|(it, _)| needed[*it]) {
            *at = place;
            put(&mut file, 4 * 512 + table * 4, &small(place)?);
            place += 32;
        }
        put(&mut file, bytes(place), &[]);
        let grain = usize::try_from(self.grain())?;
        for (index, seed) in self.stored() {
            let at = bytes(tables[index / 4096]) + index % 4096 * 4;
            put(&mut file, at, &small(place)?);
            put(&mut file, bytes(place), &content(seed, index, grain));
            place += self.grain() / SECTOR;
        }
        Ok(file)
    }

    fn sesparse(&self) -> Result<Vec<u8>> {
        let needed = self.tables(4096);
        let directory_sectors = (needed.len() as u64 * 8).div_ceil(SECTOR);
        let directory = 8;
        let tables = directory + directory_sectors;
        let used = needed.iter().filter(|it| **it).count() as u64;
        let grains = tables + used * 64;
        let mut file = Vec::new();
        let mut fields = [0_u64; 26];
        let known = [
            (0, 0xcafe_babe),
            (1, 0x2_0000_0001),
            (2, self.sectors),
            (3, 8),
            (4, 64),
            (10, 1),
            (11, 1),
            (16, directory),
            (17, directory_sectors),
            (18, tables),
            (19, used * 64),
            (24, grains),
            (25, self.cells.len() as u64 * 8),
        ];
        for (field, value) in known {
            fields[field] = value;
        }
        fields.iter().for_each(|it| file.extend(it.to_le_bytes()));
        put(&mut file, 512, &0xcafe_cafe_u64.to_le_bytes());
        put(&mut file, 1024, &[]);
        let mut numbers = vec![0_u64; needed.len()];
        let numbered = numbers.iter_mut().enumerate().filter(|(it, _)| needed[*it]);
        for (next, (table, number)) in (0_u64..).zip(numbered) {
            *number = next;
            let at = bytes(directory) + table * 8;
            put(&mut file, at, &(0x1000_0000_0000_0000 | next).to_le_bytes());
        }
        let entry =
            |index: usize| bytes(tables) + bytes(numbers[index / 4096] * 64) + index % 4096 * 8;
        for (index, _) in self.cells.iter().enumerate().filter(|(_, it)| **it == Cell::Zero) {
            let kind = if index % 2 == 0 { 1_u64 << 60 } else { 2 << 60 };
            put(&mut file, entry(index), &kind.to_le_bytes());
        }
        put(&mut file, bytes(grains), &[]);
        for (number, (index, seed)) in self.stored().into_iter().enumerate() {
            let number = number as u64;
            let value = 3 << 60 | (number & 0xfff) << 48 | number >> 12;
            put(&mut file, entry(index), &value.to_le_bytes());
            let at = bytes(grains) + bytes(number * 8);
            put(&mut file, at, &content(seed, index, 4096));
        }
        Ok(file)
    }
}

/// Bytes of a grain: never all zero, and different in every place.
fn content(seed: u8, index: usize, len: usize) -> Vec<u8> {
    let mut word = ((index * len) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(seed);
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        word = word.wrapping_add(0x1234_5678_9abd);
        bytes.extend_from_slice(&(word ^ word >> 31 | 1 << 40).to_le_bytes());
    }
    bytes
}

/// A marker of a stream: so many sectors of a kind follow.
fn marker(file: &mut Vec<u8>, sectors: u64, kind: u32) {
    file.extend(sectors.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(kind.to_le_bytes());
    file.resize(file.len().next_multiple_of(512), 0);
}

/// A place in sectors as one in bytes.
fn bytes(sectors: u64) -> usize {
    usize::try_from(sectors * SECTOR).unwrap_or(usize::MAX)
}

fn small(number: u64) -> Result<[u8; 4]> {
    Ok(u32::try_from(number)?.to_le_bytes())
}

/// Puts bytes at a place of a file, which grows as it has to.
fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}
