//! What is known of the change tracking of each VM, from one run to the next: a doubt outlives its occasion.
//!
//! Tracking that was switched on beside a snapshot leaves out changes when that snapshot is long gone, and so does the
//! one of a disk that has grown, at the size that it has now.
//! So a doubt is about one tracking, which the first half of its change ids names; it is durable, and ends when another
//! tracking is seen, whoever has started that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_vma_api::Lie;
use hub_vsphere::{Client, Disk};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::durable_file::{put, sync_directory};
use super::ledger::LedgerError;
use super::{Shared, listing};
use crate::source::{Caught, SourceError};

/// The directory below the state directory.
const DIRECTORY: &str = "change-tracking";

/// The longest record, in bytes; one of a hundred disks has a twentieth of it.
const MAX_RECORD: u64 = 1024 * 1024;

/// The longest doubt, in characters.
const MAX_DOUBT: usize = 400;

/// Why nothing is believed of a disk that has got another size under the same tracking.
const GROWN: &str = "the capacity of the disk has changed since its tracking began, and some releases of ESXi lose changes from then on (VMware KB 2090639, KB 95965)";

/// What is known of one VM: its disks by the ids of their backings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrackRecord {
    source: String,
    vm_id: String,
    disks: BTreeMap<String, Tracked>,
}

/// The tracking of one disk as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tracked {
    /// Which; none where tracking was switched on and had told nothing yet: then it is the one that is seen next.
    tracking: Option<String>,
    capacity_bytes: u64,
    /// Why nothing of it is believed.
    doubt: Option<String>,
    /// What an audit has found last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caught: Option<Found>,
}

/// A change that was left out since a mark. It outlives the tracking: whoever asked may have died before he was told, and
/// asks with that mark again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    mark: String,
    lie: Lie,
}

/// What the disks of a VM are looked at with.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// Whether changes of the VM were tracked when the run began.
    pub(super) tracked: bool,
    /// Why a tracking that is seen for the first time may have begun beside a snapshot.
    pub(super) beside: Option<String>,
    /// Disks that have another size than the parent of their copy.
    pub(super) grown: BTreeSet<String>,
}

impl TrackRecord {
    /// The same with what the disks are now; of disks that are gone nothing is kept.
    pub(super) fn after(&self, disks: &[Disk], look: &Look) -> Self {
        let seen = |disk: &Disk| {
            let before =
                self.disks.get(&id(disk)).filter(|it| look.tracked || it.tracking.is_some());
            Some((id(disk), seen(before, disk, look)?))
        };
        Self { disks: disks.iter().filter_map(seen).collect(), ..self.clone() }
    }

    /// Why nothing of what is said about the changes of a disk is believed.
    pub(super) fn doubt(&self, disk: &Disk) -> Option<&str> {
        let known = self.disks.get(&id(disk))?;
        let same = known.tracking.is_none() || known.tracking == tracking(disk);
        known.doubt.as_deref().filter(|_| same)
    }

    /// What an audit has found of the changes of a disk since a mark.
    pub(super) fn caught(&self, disk: &Disk, mark: &str) -> Option<&Lie> {
        let caught = self.disks.get(&id(disk))?.caught.as_ref()?;
        Some(&caught.lie).filter(|_| caught.mark == short(mark.as_bytes()))
    }

    /// The same with a doubt about one disk as it is now, which was caught.
    fn doubted(&self, disk: &Disk, Caught { why, change_id, lie }: &Caught) -> Self {
        let doubt = Some(why.chars().take(MAX_DOUBT).collect());
        let (tracking, capacity_bytes) = (tracking(disk), disk.capacity_bytes);
        let caught = Some(Found { mark: short(change_id.as_bytes()), lie: lie.clone() });
        let mut doubted = self.clone();
        doubted.disks.insert(id(disk), Tracked { tracking, capacity_bytes, doubt, caught });
        doubted
    }
}

/// What is known of a disk's tracking after a look at it.
fn seen(before: Option<&Tracked>, disk: &Disk, look: &Look) -> Option<Tracked> {
    let capacity_bytes = disk.capacity_bytes;
    let shortened = |why: &String| why.chars().take(MAX_DOUBT).collect::<String>();
    let beside = look.beside.as_ref().map(shortened);
    let Some(now) = tracking(disk) else {
        // It has told nothing yet, whatever another one has told before it; and what it is going to tell may have begun
        // beside a snapshot.
        let doubted = |doubt| {
            let caught = before.and_then(|it| it.caught.clone());
            Tracked { tracking: None, capacity_bytes, doubt: Some(doubt), caught }
        };
        return beside.filter(|_| look.tracked).map(doubted).or_else(|| before.cloned());
    };
    let grown = |has: bool| has.then(|| GROWN.to_owned());
    let doubt = match before {
        Some(known) if known.tracking.as_ref().is_none_or(|it| *it == now) => {
            known.doubt.clone().or_else(|| grown(known.capacity_bytes != capacity_bytes))
        }
        Some(_) => beside,
        None => beside.or_else(|| grown(look.grown.contains(&listing::disk_id(disk)))),
    };
    let caught = before.and_then(|it| it.caught.clone());
    Some(Tracked { tracking: Some(now), capacity_bytes, doubt, caught })
}

/// Names the tracking that a disk's change id is of, in a bounded length.
fn tracking(disk: &Disk) -> Option<String> {
    let change_id = disk.backing.change_id.as_deref()?;
    let named = change_id.rsplit_once('/').map_or(change_id, |(tracking, _)| tracking);
    Some(short(named.as_bytes()))
}

/// A disk keeps the id of its backing when it gets another key.
fn id(disk: &Disk) -> String {
    disk.backing.uuid.as_deref().map_or_else(|| listing::disk_id(disk), |it| short(it.as_bytes()))
}

fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().get(..32).unwrap_or_default().to_owned()
}

/// What is known of all VMs, on disk and in memory.
pub(super) struct TrackRecords {
    directory: PathBuf,
    all: Mutex<BTreeMap<(String, String), TrackRecord>>,
    /// One change at a time: two disks of a VM may be caught at once, and their record is one file.
    changing: Mutex<()>,
}

impl TrackRecords {
    /// Reads what earlier runs have seen.
    pub(super) fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let directory = state_dir.join(DIRECTORY);
        let failed = |source| LedgerError::at(&directory, source);
        fs::create_dir_all(&directory).map_err(failed)?;
        sync_directory(state_dir).map_err(failed)?;
        let all = Mutex::new(read(&directory).map_err(failed)?);
        Ok(Self { directory, all, changing: Mutex::default() })
    }

    /// What is known of a VM; nothing, where it was never seen tracked.
    pub(super) fn of(&self, source: &str, vm_id: &str) -> TrackRecord {
        let (source, vm_id) = (source.to_owned(), vm_id.to_owned());
        let known = self.all.lock().get(&(source.clone(), vm_id.clone())).cloned();
        known.unwrap_or_else(|| TrackRecord { source, vm_id, ..TrackRecord::default() })
    }

    /// Writes down what is known of a VM, durably.
    fn keep(&self, record: TrackRecord) -> Result<(), LedgerError> {
        let _turn = self.changing.lock();
        self.write(record)
    }

    /// Writes down that a disk of a VM was caught, beside whatever is known by then.
    fn doubt(&self, known: &TrackRecord, disk: &Disk, why: &Caught) -> Result<(), LedgerError> {
        let _turn = self.changing.lock();
        self.write(self.of(&known.source, &known.vm_id).doubted(disk, why))
    }

    fn write(&self, record: TrackRecord) -> Result<(), LedgerError> {
        let name = short(format!("{}\0{}", record.source, record.vm_id).as_bytes());
        let path = self.directory.join(format!("{name}.json"));
        let written = serde_json::to_vec_pretty(&record).map_err(io::Error::from);
        let written = written.and_then(|it| put(&path, &it));
        written.map_err(|source| LedgerError::at(&path, source))?;
        self.all.lock().insert((record.source.clone(), record.vm_id.clone()), record);
        Ok(())
    }
}

/// A record that cannot be read is an error: what it doubts would be believed, and nobody would know.
fn read(directory: &Path) -> io::Result<BTreeMap<(String, String), TrackRecord>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        if fs::metadata(&path)?.len() > MAX_RECORD {
            return Err(io::Error::other("a record is too long"));
        }
        let record: TrackRecord = serde_json::from_slice(&fs::read(&path)?)?;
        all.insert((record.source.clone(), record.vm_id.clone()), record);
    }
    Ok(all)
}

impl Shared {
    /// What is known of the change tracking of a VM.
    pub(super) fn track_record(&self, client: &Client, vm_id: &str) -> TrackRecord {
        self.tracks.of(&self.source(client), vm_id)
    }

    /// Writes it down where it is news: a doubt has to be durable before a run ends that has it.
    pub(super) async fn keep_track(
        self: &Arc<Self>,
        record: &TrackRecord,
    ) -> Result<(), SourceError> {
        if self.tracks.of(&record.source, &record.vm_id) == *record {
            return Ok(());
        }
        let (shared, record) = (self.clone(), record.clone());
        let kept = tokio::task::spawn_blocking(move || shared.tracks.keep(record)).await;
        super::held::written(kept)
    }

    /// Doubts the tracking of a disk from now on.
    pub(super) async fn distrust(
        self: &Arc<Self>,
        client: &Client,
        vm_id: &str,
        disk: &Disk,
        caught: &Caught,
    ) -> Result<(), SourceError> {
        let (shared, known) = (self.clone(), self.track_record(client, vm_id));
        let (disk, caught) = (disk.clone(), caught.clone());
        let noted = move || shared.tracks.doubt(&known, &disk, &caught);
        super::held::written(tokio::task::spawn_blocking(noted).await)
    }
}

#[cfg(test)]
mod tests;
