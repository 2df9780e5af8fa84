//! Writing: each touched cluster gets a step, steps that need room get neighbouring host clusters, and the
//! map learns of them only after their bytes are in the file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hub_block::{BlockError, PooledBuffer, check_range};

use super::{Base, ImageBody};
use crate::cluster_map::LoadedTable;
use crate::format::{Part, index, is_zero};
use crate::mapping::Mapping;
use crate::run::table_spans;
use crate::store_file::{StoreFile, blocking};

/// What a range is to hold.
pub(crate) enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// So many zeroes.
    Zeroes(u64),
}

/// What the base holds of the clusters that a write covers only in part: cluster number and bytes.
type Bases = Vec<(u64, Bytes)>;

/// What has to happen to one cluster.
enum Step {
    /// Nothing but a new entry, if it is one.
    Map(Mapping),
    /// The data goes over bytes that are there.
    InPlace { host: u64 },
    /// The whole cluster is written, to a kept host cluster or to a new one.
    Whole { host: Option<u64>, composed: Option<PooledBuffer> },
}

impl ImageBody {
    /// Writes; the work goes on to its end even if the future is dropped.
    pub(crate) async fn write(
        self: &Arc<Self>,
        offset: u64,
        content: Content,
    ) -> Result<(), BlockError> {
        let len = match &content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Zeroes(len) => *len,
        };
        check_range(offset, len, self.virtual_size)?;
        if self.is_closed() {
            return Err(BlockError::ReadOnly);
        }
        if len == 0 {
            return Ok(());
        }
        let size = self.geometry.cluster_size();
        let guard = self.locks.acquire(offset / size..(offset + len).div_ceil(size)).await;
        if self.is_closed() {
            return Err(BlockError::ReadOnly);
        }
        let bases = self.read_bases(offset, len).await?;
        let body = self.clone();
        blocking(move || {
            let _held_to_the_end = guard;
            match content {
                Content::Bytes(bytes) => body.apply(offset, &bytes, &bases),
                Content::Zeroes(len) => body.apply_zeroes(offset, len, &bases),
            }
        })
        .await
    }

    /// Writes on the calling thread, unless others are at work on the clusters or the base has to be read first.
    /// Blocks.
    pub(super) fn write_alone(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>> {
        let len = data.len() as u64;
        if let Err(error) = check_range(offset, len, self.virtual_size) {
            return Some(Err(error));
        }
        let size = self.geometry.cluster_size();
        let _held_to_the_end =
            self.locks.try_acquire(offset / size..(offset + len).div_ceil(size))?;
        if self.is_closed() {
            return Some(Err(BlockError::ReadOnly));
        }
        if !matches!(self.base, Base::Nothing) {
            match self.partial_on_base(offset, len) {
                Ok(wanted) if wanted.is_empty() => (),
                Ok(_) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(self.apply(offset, data, &Vec::new()))
    }

    /// Reads what a partial write has to keep; only a first or last cluster can be partial.
    async fn read_bases(self: &Arc<Self>, offset: u64, len: u64) -> Result<Bases, BlockError> {
        if matches!(self.base, Base::Nothing) {
            return Ok(Vec::new());
        }
        let body = self.clone();
        let wanted = blocking(move || body.partial_on_base(offset, len)).await?;
        let mut bases = Vec::with_capacity(wanted.len());
        for cluster in wanted {
            let start = cluster * self.geometry.cluster_size();
            bases.push((cluster, self.read_base(start, self.geometry.cluster_size()).await?));
        }
        Ok(bases)
    }

    /// Clusters that a range covers in part and that only the base has.
    fn partial_on_base(&self, offset: u64, len: u64) -> Result<Vec<u64>, BlockError> {
        let end = offset + len;
        let last = offset.max((end - 1) & !(self.geometry.cluster_size() - 1));
        let first = self.geometry.parts(offset, len).take(1);
        let tail = self.geometry.parts(last, end - last).filter(|_| last != offset);
        let mut found = Vec::new();
        for part in first.chain(tail) {
            let seen = !self.is_whole(&part) && self.is_covered(part.cluster);
            if seen && self.mapping(self.entry(part.cluster)?)? == Mapping::Absent {
                found.push(part.cluster);
            }
        }
        Ok(found)
    }

    /// The entry of one cluster.
    fn entry(&self, cluster: u64) -> Result<u64, BlockError> {
        let entries = self.geometry.table_entries();
        self.with_table(cluster / entries, |view| {
            view.map_or(0, |it| it.entries[index(cluster % entries)])
        })
    }

    /// The entries of all clusters that a range touches.
    fn entries(&self, offset: u64, len: u64) -> Result<Vec<u64>, BlockError> {
        let mut entries = Vec::new();
        for (table, at, len) in table_spans(self.geometry, offset, len) {
            self.with_table(table, |view| {
                let slots = self.geometry.parts(at, len);
                let slots = slots.map(|it| index(it.cluster % self.geometry.table_entries()));
                entries.extend(slots.map(|slot| view.map_or(0, |it| it.entries[slot])));
            })?;
        }
        Ok(entries)
    }

    /// Changes entries: cluster and entry, in order.
    fn set_entries(&self, changes: &[(u64, u64)]) -> Result<(), BlockError> {
        let entries = self.geometry.table_entries();
        for changes in changes.chunk_by(|left, right| left.0 / entries == right.0 / entries) {
            self.edit_table(changes[0].0 / entries, |table| {
                for (cluster, entry) in changes {
                    table.set(cluster % entries, *entry);
                }
            })?;
        }
        Ok(())
    }

    /// Whether a part is all that can be seen of its cluster; the last one may reach beyond the disk.
    fn is_whole(&self, part: &Part) -> bool {
        let size = self.geometry.cluster_size();
        part.start == 0 && part.len == size.min(self.virtual_size - part.cluster * size)
    }

    /// Whether something under the image shows where it has no cluster.
    fn is_covered(&self, cluster: u64) -> bool {
        cluster * self.geometry.cluster_size() < self.base_size()
    }

    /// How a cluster without bytes reads as zeroes.
    fn zero_mapping(&self, cluster: u64) -> Mapping {
        if self.is_covered(cluster) { Mapping::Zero { host: None } } else { Mapping::Absent }
    }

    fn mapping(&self, raw: u64) -> Result<Mapping, BlockError> {
        Mapping::decode(raw, self.geometry, self.file_end())
            .map_err(|fault| fault.at(0, self.file.label()))
    }

    /// Writes bytes to locked clusters. Blocks.
    fn apply(&self, offset: u64, data: &[u8], bases: &Bases) -> Result<(), BlockError> {
        let len = data.len() as u64;
        let parts: Vec<Part> = self.geometry.parts(offset, len).collect();
        let entries = self.entries(offset, len)?;
        let mut steps = Vec::with_capacity(parts.len());
        for (part, raw) in parts.iter().zip(&entries) {
            let mapping = self.mapping(*raw)?;
            let under = if let Mapping::Compressed { host, len } = mapping
                && !self.is_whole(part)
            {
                Some(self.unpack(host, len)?.freeze())
            } else {
                bases.iter().find(|it| it.0 == part.cluster).map(|it| it.1.clone())
            };
            let step = self.plan(part, mapping, data, under.as_deref().unwrap_or(&[]));
            steps.push(self.pack(part, step, data)?);
        }
        let mapped = self.write_steps(&parts, steps, data)?;
        let mut changes = Vec::new();
        for ((part, before), mapping) in parts.iter().zip(entries).zip(mapped) {
            let entry = mapping.map_or(before, |it| it.encode(self.geometry));
            if entry != before {
                changes.push((part.cluster, entry));
            }
        }
        self.set_entries(&changes)
    }

    /// Compresses a cluster that would be written as a whole to a new place, where that is wanted and helps.
    fn pack(&self, part: &Part, step: Step, data: &[u8]) -> Result<Step, BlockError> {
        let (Some(packer), Step::Whole { host: None, composed }) = (&self.packer, &step) else {
            return Ok(step);
        };
        if !self.is_whole(part) {
            return Ok(step);
        }
        let bytes = composed.as_deref().unwrap_or(&data[slice_of(part)]);
        let packed = packer.pack(bytes, &self.file, |count| self.take_clusters(count))?;
        Ok(packed.map_or(step, Step::Map))
    }

    /// Decides about one cluster; where it has no bytes of its own to keep, `under` shows through.
    fn plan(&self, part: &Part, mapping: Mapping, data: &[u8], under: &[u8]) -> Step {
        let bytes = &data[slice_of(part)];
        let whole = self.is_whole(part);
        match mapping {
            Mapping::Data { host } if whole && is_zero(bytes) => {
                Step::Map(Mapping::Zero { host: Some(host) })
            }
            Mapping::Data { host } => Step::InPlace { host: host + part.start },
            Mapping::Zero { .. } if is_zero(bytes) => Step::Map(mapping),
            Mapping::Zero { host } if part.len == self.geometry.cluster_size() => {
                Step::Whole { host, composed: None }
            }
            Mapping::Zero { host } => {
                Step::Whole { host, composed: Some(self.compose(part, bytes, &[])) }
            }
            // Packed bytes are never written again: the cluster gets a place of its own.
            Mapping::Absent | Mapping::Compressed { .. } if whole && is_zero(bytes) => {
                Step::Map(self.zero_mapping(part.cluster))
            }
            Mapping::Absent | Mapping::Compressed { .. }
                if part.len == self.geometry.cluster_size() =>
            {
                Step::Whole { host: None, composed: None }
            }
            Mapping::Absent | Mapping::Compressed { .. } => {
                let under = if whole { &[] } else { under };
                let composed = self.compose(part, bytes, under);
                if is_zero(&composed) {
                    Step::Map(self.zero_mapping(part.cluster))
                } else {
                    Step::Whole { host: None, composed: Some(composed) }
                }
            }
        }
    }

    /// A whole cluster: the new bytes over what lies under them, zero elsewhere.
    fn compose(&self, part: &Part, bytes: &[u8], under: &[u8]) -> PooledBuffer {
        let mut whole = self.pool.take(self.geometry.cluster_len());
        whole.fill(0);
        whole[..under.len()].copy_from_slice(under);
        whole[index(part.start)..][..bytes.len()].copy_from_slice(bytes);
        whole
    }

    /// Writes the bytes of all steps and returns what the map has to learn then.
    fn write_steps(
        &self,
        parts: &[Part],
        steps: Vec<Step>,
        data: &[u8],
    ) -> Result<Vec<Option<Mapping>>, BlockError> {
        let size = self.geometry.cluster_size();
        let fresh = steps.iter().filter(|it| matches!(it, Step::Whole { host: None, .. })).count();
        let mut room = self.take_clusters(fresh as u64);
        let mut writes = JoinedWrites { file: &self.file, data, pending: None };
        let mut mapped = Vec::with_capacity(steps.len());
        for (part, step) in parts.iter().zip(steps) {
            mapped.push(match step {
                Step::Map(mapping) => Some(mapping),
                Step::InPlace { host } => {
                    writes.push(host, slice_of(part))?;
                    None
                }
                Step::Whole { host, composed } => {
                    let host = host.unwrap_or_else(|| {
                        room += size;
                        room - size
                    });
                    match composed {
                        None => writes.push(host, slice_of(part))?,
                        Some(bytes) => self.file.write_all_at(&bytes, host)?,
                    }
                    Some(Mapping::Data { host })
                }
            });
        }
        writes.finish()?;
        Ok(mapped)
    }

    /// Hands out neighbouring host clusters at the end of the file. Those of a write that fails stay
    /// unused: refcounts are computed from the map, so they do not count as leaked.
    pub(super) fn take_clusters(&self, count: u64) -> u64 {
        let size = self.geometry.cluster_size();
        let first = self.next.fetch_add(count, Ordering::AcqRel);
        if count > 0 {
            self.file.reserve((first + count) * size);
        }
        first * size
    }

    /// Makes locked clusters read as zeroes. Blocks.
    fn apply_zeroes(&self, offset: u64, len: u64, bases: &Bases) -> Result<(), BlockError> {
        let size = self.geometry.cluster_size();
        let end = offset + len;
        let first = offset.next_multiple_of(size);
        let last = if end == self.virtual_size { end } else { end / size * size };
        if first >= last {
            // No whole cluster, so the range is shorter than two.
            return self.apply(offset, &vec![0; index(len)], bases);
        }
        self.apply(offset, &vec![0; index(first - offset)], bases)?;
        self.apply(last, &vec![0; index(end - last)], bases)?;
        for (table, at, len) in table_spans(self.geometry, first, last - first) {
            let exists = self.with_table(table, |view| view.is_some())?;
            if exists || self.is_covered(at / size) {
                self.edit_table(table, |table| self.zero_entries(table, at, len))??;
            }
        }
        Ok(())
    }

    /// Makes the whole clusters of a range within a table read as zeroes.
    fn zero_entries(&self, table: &mut LoadedTable, at: u64, len: u64) -> Result<(), BlockError> {
        let size = self.geometry.cluster_size();
        for cluster in at / size..(at + len).div_ceil(size) {
            let slot = cluster % self.geometry.table_entries();
            let zero = match self.mapping(table.entries()[index(slot)])? {
                Mapping::Absent | Mapping::Compressed { .. } => self.zero_mapping(cluster),
                Mapping::Zero { host } => Mapping::Zero { host },
                Mapping::Data { host } => Mapping::Zero { host: Some(host) },
            };
            table.set(slot, zero.encode(self.geometry));
        }
        Ok(())
    }
}

fn slice_of(part: &Part) -> Range<usize> {
    index(part.at)..index(part.at + part.len)
}

/// Joins writes whose bytes and places are neighbours into one.
struct JoinedWrites<'a> {
    file: &'a StoreFile,
    data: &'a [u8],
    pending: Option<(u64, Range<usize>)>,
}

impl JoinedWrites<'_> {
    fn push(&mut self, host: u64, bytes: Range<usize>) -> Result<(), BlockError> {
        if let Some((start, range)) = &mut self.pending
            && *start + range.len() as u64 == host
            && range.end == bytes.start
        {
            range.end = bytes.end;
            return Ok(());
        }
        match self.pending.replace((host, bytes)) {
            Some((start, range)) => self.file.write_all_at(&self.data[range], start),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<(), BlockError> {
        match self.pending {
            Some((start, range)) => self.file.write_all_at(&self.data[range], start),
            None => Ok(()),
        }
    }
}
