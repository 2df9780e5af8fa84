//! The extent journal: where the clusters of an unfinished image lie, so that a restarted hub can go on with it.
//!
//! A file beside the image. It begins with `SHUBJRNL`, the version 1 as four bytes, and 32 bytes that say which image
//! it is of; then come batches, each of a count (four bytes), as many runs (first cluster of the disk, first cluster of
//! the file, number of clusters; eight bytes each), and a BLAKE3 digest over the digest before it and the batch. The
//! digest before the first batch is that of the head. All integers are little-endian.
//!
//! A batch whose digest does not fit is the torn end of the file; nothing behind it is believed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hub_block::{create_file, trail};
use hub_qcow2::PlacedRun;

const MAGIC: &[u8; 8] = b"SHUBJRNL";
const VERSION: u32 = 1;
/// Magic, version, identity.
const HEAD: usize = 44;
const RUN: usize = 24;
const DIGEST: usize = 32;
/// Most runs of a batch; more make several.
const MAX_RUNS: usize = 65_536;

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// The digest of everything so far.
    chain: [u8; DIGEST],
    end: u64,
}

impl Journal {
    /// Creates the file, which must not exist, for the image with this identity.
    pub(crate) fn create_new(path: &Path, identity: &[u8; 32]) -> io::Result<Self> {
        let head = head(identity);
        create_file(path, |file| {
            file.write_all_at(&head, 0)?;
            trail::wrote(&file, 0, &head);
            Ok(Self { file, chain: digest(&[&head]), end: HEAD as u64 })
        })
    }

    /// Opens the journal of the image with this identity; answers what it says up to its last whole batch, and goes on
    /// behind that. A journal of another image, or of none, is no journal.
    pub(crate) fn open(
        path: &Path,
        identity: &[u8; 32],
    ) -> io::Result<Option<(Self, Vec<PlacedRun>)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut found = [0; HEAD];
        let expected = head(identity);
        if read_up_to(&file, &mut found, 0)? < HEAD || found != expected {
            return Ok(None);
        }
        let mut journal = Self { file, chain: digest(&[&expected]), end: HEAD as u64 };
        let mut runs = Vec::new();
        while let Some(batch) = journal.next_batch()? {
            runs.extend(batch);
        }
        Ok(Some((journal, runs)))
    }

    /// Adds runs and makes them durable; what they speak of has to be durable already.
    pub(crate) fn append(&mut self, runs: &[PlacedRun]) -> io::Result<()> {
        for batch in runs.chunks(MAX_RUNS) {
            let mut bytes = Vec::with_capacity(4 + batch.len() * RUN + DIGEST);
            let count = u32::try_from(batch.len()).map_err(io::Error::other)?;
            bytes.extend(count.to_le_bytes());
            for run in batch {
                for number in [run.guest, run.host, run.count] {
                    bytes.extend(number.to_le_bytes());
                }
            }
            let chain = digest(&[&self.chain, &bytes]);
            bytes.extend(chain);
            self.file.write_all_at(&bytes, self.end)?;
            trail::wrote(&self.file, self.end, &bytes);
            self.chain = chain;
            self.end += bytes.len() as u64;
        }
        trail::sync(&self.file, || self.file.sync_all())
    }

    /// The batch at the end, if it is whole; the end is behind it then.
    fn next_batch(&mut self) -> io::Result<Option<Vec<PlacedRun>>> {
        let mut count = [0; 4];
        if read_up_to(&self.file, &mut count, self.end)? < count.len() {
            return Ok(None);
        }
        let runs = u32::from_le_bytes(count) as usize;
        if runs == 0 || runs > MAX_RUNS {
            return Ok(None);
        }
        let mut bytes = vec![0; 4 + runs * RUN + DIGEST];
        if read_up_to(&self.file, &mut bytes, self.end)? < bytes.len() {
            return Ok(None);
        }
        let (batch, told) = bytes.split_at(bytes.len() - DIGEST);
        let chain = digest(&[&self.chain, batch]);
        if chain != told {
            return Ok(None);
        }
        self.chain = chain;
        self.end += bytes.len() as u64;
        Ok(Some(batch[4..].chunks_exact(RUN).map(run).collect()))
    }
}

fn head(identity: &[u8; 32]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..].copy_from_slice(identity);
    head
}

fn digest(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn run(bytes: &[u8]) -> PlacedRun {
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    PlacedRun { guest: number(0), host: number(8), count: number(16) }
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: [u8; 32] = [7; 32];

    fn runs(len: usize, seed: u64) -> Vec<PlacedRun> {
        let run = |at: u64| PlacedRun { guest: at * 3 + seed, host: at + 1, count: seed + 1 };
        (0..len as u64).map(run).collect()
    }

    proptest! {
        /// Cut or garbled anywhere, it answers whole batches from its beginning and nothing else.
        #[test]
        fn a_damaged_journal_answers_what_stands_before_the_damage(
            lens in vec(1..20_usize, 1..6), place in 0..1000_usize, garble in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            let mut journal = Journal::create_new(&path, &IDENTITY).unwrap();
            let mut whole = vec![(journal.end, Vec::new())];
            for (seed, len) in (0..).zip(lens) {
                let batch = runs(len, seed);
                journal.append(&batch).unwrap();
                let mut all = whole.last().unwrap().1.clone();
                all.extend(batch);
                whole.push((journal.end, all));
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() * place / 1000;
            if garble {
                bytes[at] ^= 0x40;
            } else {
                bytes.truncate(at);
            }
            std::fs::write(&path, &bytes).unwrap();
            let expected = whole.iter().rev().find(|(end, _)| *end <= at as u64);
            match (Journal::open(&path, &IDENTITY).unwrap(), expected) {
                (None, None) => (),
                (Some((mut journal, found)), Some((end, expected))) => {
                    prop_assert_eq!(&found, expected);
                    prop_assert_eq!(journal.end, *end);
                    // What is written now stands where the damage was.
                    let more = runs(3, 99);
                    journal.append(&more).unwrap();
                    let (_, again) = Journal::open(&path, &IDENTITY).unwrap().unwrap();
                    prop_assert_eq!(again, [found, more].concat());
                }
                (found, expected) => prop_assert!(false, "{found:?} is not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_journal_of_another_image_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(Journal::open(&path, &IDENTITY).unwrap().is_none(), "there is no file");
        Journal::create_new(&path, &IDENTITY).unwrap().append(&runs(2, 0)).unwrap();
        assert!(Journal::open(&path, &[8; 32]).unwrap().is_none());
        assert!(Journal::create_new(&path, &IDENTITY).is_err(), "it is never written over");
    }

    #[test]
    fn many_runs_are_several_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let all = runs(MAX_RUNS + 5, 1);
        Journal::create_new(&path, &IDENTITY).unwrap().append(&all).unwrap();
        assert!(Journal::open(&path, &IDENTITY).unwrap().unwrap().1 == all);
    }
}
