//! Snapshots that are owed: each is written down durably before it is taken, and struck off when it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hub_vma_api::{JOB_SNAPSHOT, is_name_of_a_job};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::durable_file::{put, sync_directory};

/// The directory below the state directory.
const DIRECTORY: &str = "owed-snapshots";

/// The longest record, in bytes.
const MAX_RECORD: u64 = 64 * 1024;

/// The longest that a record may ask to look again for.
const LONGEST_MAY_COME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Jobs that are remembered to have left nothing.
const MAX_CLEAN: usize = 1024;

/// A snapshot that exists, or may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owed {
    /// The job that it was taken for.
    pub(super) job_id: String,
    /// Which vCenter or host has it, since another one that this VMA is pointed at later knows nothing of it.
    pub(super) source: String,
    /// The VM's id as the hub has it.
    pub(super) vm_id: String,
    /// The VM's reference.
    pub(super) vm: String,
    /// The snapshot's name; only snapshots of exactly this name are removed.
    pub(super) name: String,
}

/// What is on disk of one debt.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    owed: Owed,
    /// For so long no look is proof that there is no snapshot; counted anew by each process that reads it, since a
    /// clock that jumps must not end it early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    may_come_seconds: Option<u64>,
}

/// What is to be remembered, such as snapshots to remove, cannot be read or written; no snapshot may be taken then.
#[derive(Debug, thiserror::Error)]
#[error("what has to be remembered in {path} cannot be kept: {source}")]
pub struct LedgerError {
    path: String,
    source: io::Error,
}

impl LedgerError {
    /// What failed at a path.
    pub(super) fn at(path: &Path, source: io::Error) -> Self {
        Self { path: path.display().to_string(), source }
    }
}

/// What is owed, on disk and in memory.
pub(super) struct Ledger {
    directory: PathBuf,
    state: Mutex<BTreeMap<String, Entry>>,
    /// Jobs of which this process knows that they have left nothing, the newest last.
    clean: Mutex<VecDeque<String>>,
}

struct Entry {
    owed: Owed,
    /// Whether somebody in this process holds it.
    held: bool,
    /// Until then the server may do what it was asked to, though nobody heard its answer.
    may_come: Option<Instant>,
    /// Whether it is on disk.
    written: bool,
    /// Why it could not be settled, as it was told last.
    told: Option<String>,
}

impl Entry {
    fn new(owed: Owed, held: bool, written: bool) -> Self {
        Self { owed, held, may_come: None, written, told: None }
    }
}

impl Ledger {
    /// Reads what earlier runs have left.
    pub(super) fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let directory = state_dir.join(DIRECTORY);
        let failed = |source| LedgerError { path: directory.display().to_string(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        sync_directory(state_dir).map_err(failed)?;
        let state = read(&directory).map_err(failed)?;
        Ok(Self { directory, state: Mutex::new(state), clean: Mutex::default() })
    }

    /// A record is about to be written down: from now on the job may owe something.
    pub(super) fn announce(&self, owed: &Owed) {
        self.clean.lock().retain(|it| *it != owed.job_id);
        let new = || Entry::new(owed.clone(), true, false);
        self.state.lock().entry(owed.job_id.clone()).or_insert_with(new).held = true;
    }

    /// Writes a record down, durably; no request for its snapshot is under way.
    pub(super) fn owe(&self, owed: &Owed) -> Result<(), LedgerError> {
        self.put(Record { owed: owed.clone(), may_come_seconds: None })
    }

    /// Writes a record down, durably, before its snapshot is asked for.
    ///
    /// A process that finds it knows nothing of the answer: for so long no look of it is proof that there is no snapshot.
    /// In this process the record is held until the answer is there.
    pub(super) fn owe_before_asking(&self, owed: &Owed, time: Duration) -> Result<(), LedgerError> {
        self.put(Record { owed: owed.clone(), may_come_seconds: Some(seconds(time)) })
    }

    fn put(&self, record: Record) -> Result<(), LedgerError> {
        let owed = &record.owed;
        if let Err(error) = self.write(&record) {
            // What is not on record is not taken.
            self.state.lock().retain(|job_id, it| it.written || *job_id != owed.job_id);
            return Err(error);
        }
        self.clean.lock().retain(|it| *it != owed.job_id);
        self.state.lock().insert(owed.job_id.clone(), Entry::new(owed.clone(), true, true));
        Ok(())
    }

    /// Nobody holds it any more, and it is still owed.
    pub(super) fn let_go(&self, job_id: &str) {
        if let Some(entry) = self.state.lock().get_mut(job_id) {
            entry.held = false;
        }
    }

    /// The answer was lost: for so long no look is proof that there is no snapshot, in this process and in later ones.
    pub(super) fn may_come_within(&self, job_id: &str, time: Duration) -> Result<(), LedgerError> {
        let owed = {
            let mut state = self.state.lock();
            let Some(entry) = state.get_mut(job_id) else { return Ok(()) };
            entry.may_come = until(time);
            entry.owed.clone()
        };
        self.write(&Record { owed, may_come_seconds: Some(seconds(time)) })
    }

    /// Whether a snapshot that is not there may be taken yet.
    pub(super) fn may_come(&self, job_id: &str) -> bool {
        let state = self.state.lock();
        let until = state.get(job_id).and_then(|it| it.may_come);
        until.is_some_and(|it| Instant::now() < it)
    }

    /// Whether a job has a record, or is about to have one.
    pub(super) fn owes(&self, job_id: &str) -> bool {
        self.state.lock().contains_key(job_id)
    }

    /// Everything that is owed, and whether a job of this process holds it.
    pub(super) fn all(&self) -> Vec<(Owed, bool)> {
        self.state.lock().values().map(|it| (it.owed.clone(), it.held)).collect()
    }

    /// A job has left nothing so far, unless it owes something.
    pub(super) fn note_clean(&self, job_id: &str) {
        if self.owes(job_id) {
            return;
        }
        let mut clean = self.clean.lock();
        clean.retain(|it| it != job_id);
        if clean.len() >= MAX_CLEAN {
            clean.pop_front();
        }
        clean.push_back(job_id.to_owned());
    }

    /// Whether this process knows that a job has left nothing.
    pub(super) fn is_clean(&self, job_id: &str) -> bool {
        !self.owes(job_id) && self.clean.lock().iter().any(|it| it == job_id)
    }

    /// Whether this is another reason than the one that was told last.
    pub(super) fn is_news(&self, job_id: &str, reason: &str) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.get_mut(job_id) else { return true };
        entry.told.replace(reason.to_owned()).is_none_or(|it| it != reason)
    }

    /// Strikes a record off: the snapshot is gone.
    pub(super) fn forget(&self, job_id: &str) -> Result<(), LedgerError> {
        self.strike_off(job_id)?;
        self.note_clean(job_id);
        Ok(())
    }

    /// Strikes a record off, whatever has become of the snapshot.
    pub(super) fn strike_off(&self, job_id: &str) -> Result<(), LedgerError> {
        let path = self.path(job_id);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_directory(&self.directory),
        };
        removed.map_err(|source| LedgerError { path: path.display().to_string(), source })?;
        self.state.lock().remove(job_id);
        Ok(())
    }

    /// Whether a VM, by its reference, has or may have a snapshot of ours.
    pub(super) fn owes_at(&self, vm: &str) -> bool {
        self.state.lock().values().any(|it| it.owed.vm == vm)
    }

    /// What is owed and held by nobody.
    pub(super) fn left_over(&self) -> Vec<Owed> {
        let state = self.state.lock();
        state.values().filter(|it| !it.held).map(|it| it.owed.clone()).collect()
    }

    /// Whether it is owed and held by nobody.
    pub(super) fn is_left_over(&self, job_id: &str) -> bool {
        self.state.lock().get(job_id).is_some_and(|it| !it.held)
    }

    /// Whether a job of this process holds its snapshot.
    pub(super) fn is_held(&self, job_id: &str) -> bool {
        self.state.lock().get(job_id).is_some_and(|it| it.held)
    }

    fn path(&self, job_id: &str) -> PathBuf {
        self.directory.join(format!("{}.json", blake3::hash(job_id.as_bytes()).to_hex()))
    }

    fn write(&self, record: &Record) -> Result<(), LedgerError> {
        let path = self.path(&record.owed.job_id);
        let written = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        let written = written.and_then(|it| put(&path, &it));
        written.map_err(|source| LedgerError::at(&path, source))
    }
}

/// The name of the snapshot of a job: its id where that fits and is plain, else a digest of it.
pub(super) fn snapshot_name(job_id: &str) -> String {
    let plain = format!("{JOB_SNAPSHOT}{job_id}");
    if is_name_of_a_job(&plain) {
        return plain;
    }
    let digest = blake3::hash(job_id.as_bytes()).to_hex();
    format!("{JOB_SNAPSHOT}{}", digest.get(..48).unwrap_or_default())
}

/// A time as a record has it; one that has none is no doubt.
fn seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}

/// When a time from now is over.
fn until(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time.min(LONGEST_MAY_COME))
}

/// A record that cannot be read is an error: what it was about would be owed for ever, and nobody would know.
fn read(directory: &Path) -> io::Result<BTreeMap<String, Entry>> {
    let mut state = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        if fs::metadata(&path)?.len() > MAX_RECORD {
            return Err(io::Error::other("a record is too long"));
        }
        let Record { owed, may_come_seconds } = serde_json::from_slice(&fs::read(&path)?)?;
        let mut entry = Entry::new(owed, false, true);
        entry.may_come = may_come_seconds.map(Duration::from_secs).and_then(until);
        state.insert(entry.owed.job_id.clone(), entry);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(job_id: &str) -> Owed {
        Owed {
            job_id: job_id.to_owned(),
            source: "vc-1".to_owned(),
            vm_id: "5015".to_owned(),
            vm: "vm-57".to_owned(),
            name: snapshot_name(job_id),
        }
    }

    #[test]
    fn trap_u12_what_is_owed_outlives_the_process() {
        let place = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(place.path()).unwrap();
        ledger.owe(&owed("one/../two")).unwrap();
        ledger.owe(&owed("three")).unwrap();
        assert!(ledger.left_over().is_empty() && ledger.is_held("three"));
        ledger.let_go("three");
        assert_eq!(ledger.left_over(), [owed("three")]);
        ledger.forget("three").unwrap();
        ledger.forget("three").unwrap();
        drop(ledger);
        let again = Ledger::open(place.path()).unwrap();
        assert_eq!(again.left_over(), [owed("one/../two")]);
        assert!(!again.is_held("one/../two"));
    }

    #[test]
    fn p3_what_may_come_yet_outlives_the_process_and_ends() {
        let place = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(place.path()).unwrap();
        for job_id in ["lost", "heard", "long ago"] {
            ledger.owe(&owed(job_id)).unwrap();
        }
        ledger.may_come_within("lost", Duration::from_secs(3600)).unwrap();
        ledger.may_come_within("long ago", Duration::ZERO).unwrap();
        ledger.may_come_within("unheard of", Duration::from_secs(3600)).unwrap();
        assert!(ledger.may_come("lost") && !ledger.may_come("heard"));
        assert!(!ledger.may_come("long ago") && !ledger.owes("unheard of"));
        drop(ledger);
        let again = Ledger::open(place.path()).unwrap();
        assert!(again.may_come("lost") && !again.may_come("heard"));
        assert_eq!(again.left_over().len(), 3, "a record without the time is one of before");
        again.owe_before_asking(&owed("asked"), Duration::from_secs(3600)).unwrap();
        assert!(!again.may_come("asked"));
        assert!(Ledger::open(place.path()).unwrap().may_come("asked"));
        again.owe(&owed("asked")).unwrap();
        assert!(!Ledger::open(place.path()).unwrap().may_come("asked"));
        // Whatever is on disk, a later program can read it.
        again.may_come_within("heard", Duration::MAX).unwrap();
        assert!(Ledger::open(place.path()).unwrap().may_come("heard"));
    }

    #[test]
    fn trap_u12_a_job_owes_from_before_its_record_is_on_disk_and_is_clean_only_without_one() {
        let place = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(place.path()).unwrap();
        ledger.note_clean("one");
        assert!(ledger.is_clean("one") && !ledger.is_clean("two"));
        ledger.announce(&owed("one"));
        assert!(ledger.owes("one") && ledger.is_held("one") && !ledger.is_clean("one"));
        ledger.note_clean("one");
        assert!(!ledger.is_clean("one"), "it owes");
        ledger.owe(&owed("one")).unwrap();
        ledger.forget("one").unwrap();
        assert!(ledger.is_clean("one"));
        ledger.owe(&owed("two")).unwrap();
        ledger.strike_off("two").unwrap();
        assert!(!ledger.owes("two") && !ledger.is_clean("two"), "nobody has looked");
        for number in 0..MAX_CLEAN {
            ledger.note_clean(&number.to_string());
        }
        assert!(!ledger.is_clean("one"), "memory is bounded");
        // Without a directory nothing is written down, and nothing is owed.
        fs::remove_dir_all(place.path()).unwrap();
        ledger.announce(&owed("three"));
        ledger.owe(&owed("three")).unwrap_err();
        assert!(!ledger.owes("three"));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_empty_list() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join(DIRECTORY)).unwrap();
        fs::write(place.path().join(DIRECTORY).join("x.json"), "{").unwrap();
        assert!(Ledger::open(place.path()).is_err());
    }

    #[test]
    fn names_carry_the_job_and_fit() {
        assert_eq!(snapshot_name("0199-a"), "sendense-hub job 0199-a");
        for odd in ["", "a/b", "a%b", &"x".repeat(128)] {
            let name = snapshot_name(odd);
            assert!(is_name_of_a_job(&name) && name.len() <= 80 && !name.contains('/'), "{name}");
        }
        assert_ne!(snapshot_name("a/b"), snapshot_name("a/c"));
        for theirs in ["sendense-hub job", "sendense-hub job ", "sendense-hub job a b", "nightly"] {
            assert!(!is_name_of_a_job(theirs), "{theirs}");
        }
    }
}
