//! Writers that go on: where clusters were placed is told from time to time, and a later writer takes it up.
//!
//! Only the places are told; what the clusters hold is for the caller to prove, who may have lost the last writes.

use std::io;
use std::path::Path;

use hub_block::BlockError;

use crate::body::ImageBody;
use crate::error::CreateError;
use crate::format::{COMPRESSED, Geometry, MAX_HOST_CLUSTERS, OFFSET, ZERO};
use crate::mapping::Mapping;
use crate::store_file::StoreFile;
use crate::used_clusters::UsedClusters;
use crate::writer::{CreateOptions, ImageWriter};

/// Neighbouring clusters of the disk that lie in neighbouring clusters of the file; all three in clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedRun {
    /// The first cluster of the disk.
    pub guest: u64,
    /// The first cluster of the file.
    pub host: u64,
    /// How many; never 0.
    pub count: u64,
}

/// The places that were told already; one bit for each cluster of the file.
#[derive(Debug, Default)]
pub struct Placements {
    told: UsedClusters,
}

impl Placements {
    /// How many clusters were told.
    pub fn clusters(&self) -> u64 {
        self.told.len()
    }
}

impl ImageWriter {
    /// The clusters that were placed and not told before; their bytes are in the file, and durable after a
    /// [`flush`](hub_block::BlockDevice::flush) that begins when this has returned.
    ///
    /// Looks through the part of the map that changed since the last call. Blocks, where a table has to be
    /// read. An error is one of reading; what it was about to tell is lost, and would be copied again.
    /// Compressed clusters and zeroes are not told.
    pub fn newly_placed(&self, placements: &mut Placements) -> Result<Vec<PlacedRun>, BlockError> {
        let geometry = self.body.geometry;
        // Tables that lie in the file stay as they are meanwhile; changes to the others come the next time.
        let _tables_stay_where_they_are = self.body.tables_out.lock();
        let tables = self.body.map.write().take_touched();
        let mut runs: Vec<PlacedRun> = Vec::new();
        for number in tables {
            let first = number * geometry.table_entries();
            self.body.each_table([number], |entries| {
                for (guest, entry) in (first..).zip(entries) {
                    if let Some(host) = placed(*entry, geometry)
                        && placements.told.insert(host)
                    {
                        push(&mut runs, guest, host);
                    }
                }
            })?;
        }
        Ok(runs)
    }

    /// Goes on with an image without a backing file that an earlier writer left unfinished at these places; a later run
    /// counts where two speak of one cluster of the disk.
    ///
    /// Nothing is believed but the places, and these only when they fit: inside the disk and inside the file, no two
    /// clusters at one place, behind a header that was never written. What else lies in the file is written over.
    /// Reads go to the disk: after a sync that failed, memory may show what the disk never took.
    pub fn resume(
        path: &Path,
        options: CreateOptions,
        runs: &[PlacedRun],
    ) -> Result<(Self, Placements), CreateError> {
        let refused = |what| CreateError::NotResumable { path: path.to_owned(), what };
        if options.backing.is_some() {
            return Err(refused("it stands on another image"));
        }
        let virtual_size = options.virtual_size;
        let writer = Self::begin(options, None, |geometry, _| {
            let io = |source| CreateError::Io { path: path.to_owned(), source };
            let file = StoreFile::open_write(path).map_err(io)?;
            let in_file = file.len().map_err(io)? / geometry.cluster_size();
            if has_header(&file, geometry) {
                return Err(refused("it has a header already"));
            }
            let next = end_of(geometry, (virtual_size, in_file), runs).map_err(refused)?;
            file.forget_pages().map_err(|error| read(path, error))?;
            Ok((file, next))
        })?;
        writer.body.place(runs).map_err(|error| read(path, error))?;
        let told = writer.body.told().map_err(|error| read(path, error))?;
        let told = told.ok_or_else(|| refused("two clusters lie at one place"))?;
        Ok((writer, Placements { told }))
    }
}

impl ImageBody {
    /// Maps clusters to the places where they are.
    fn place(&self, runs: &[PlacedRun]) -> Result<(), BlockError> {
        let entries = self.geometry.table_entries();
        for run in runs {
            let mut step = 0;
            while step < run.count {
                let slot = (run.guest + step) % entries;
                let count = (entries - slot).min(run.count - step);
                self.edit_table((run.guest + step) / entries, |table| {
                    for at in 0..count {
                        let host = (run.host + step + at) * self.geometry.cluster_size();
                        table.set(slot + at, Mapping::Data { host }.encode(self.geometry));
                    }
                })?;
                step += count;
            }
        }
        Ok(())
    }

    /// The places of all clusters; nothing if two have the same one.
    fn told(&self) -> Result<Option<UsedClusters>, BlockError> {
        let mut told = UsedClusters::default();
        let mut twice = false;
        let tables = self.map.read().numbers();
        self.each_table(tables, |entries| {
            for host in entries.iter().filter_map(|entry| placed(*entry, self.geometry)) {
                twice |= !told.insert(host);
            }
        })?;
        Ok((!twice).then_some(told))
    }
}

fn read(path: &Path, error: BlockError) -> CreateError {
    CreateError::Io { path: path.to_owned(), source: io::Error::other(error) }
}

/// The place of a cluster that has bytes of its own.
fn placed(entry: u64, geometry: Geometry) -> Option<u64> {
    let host = (entry & OFFSET) / geometry.cluster_size();
    (entry & (COMPRESSED | ZERO) == 0 && host > 0).then_some(host)
}

fn push(runs: &mut Vec<PlacedRun>, guest: u64, host: u64) {
    match runs.last_mut() {
        Some(last) if last.guest + last.count == guest && last.host + last.count == host => {
            last.count += 1;
        }
        _ => runs.push(PlacedRun { guest, host, count: 1 }),
    }
}

fn has_header(file: &StoreFile, geometry: Geometry) -> bool {
    let mut head = vec![0; geometry.cluster_len().min(4096)];
    let read = file.read_up_to_at(&mut head, 0);
    !read.is_ok_and(|len| head[..len].iter().all(|byte| *byte == 0))
}

/// Checks that runs lie within the disk and the file; the cluster of the file behind all of them.
fn end_of(
    geometry: Geometry,
    (virtual_size, in_file): (u64, u64),
    runs: &[PlacedRun],
) -> Result<u64, &'static str> {
    let in_disk = geometry.clusters(virtual_size);
    let in_file = in_file.min(MAX_HOST_CLUSTERS);
    let inside = |first: u64, count: u64, end: u64| {
        first.checked_add(count).is_some_and(|last| count > 0 && last <= end)
    };
    let mut end = 1;
    for run in runs {
        if !inside(run.guest, run.count, in_disk) {
            return Err("a cluster lies outside of the disk");
        }
        if run.host == 0 || !inside(run.host, run.count, in_file) {
            return Err("a cluster lies outside of the file");
        }
        end = end.max(run.host + run.count);
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
