//! Writes down from time to time where the clusters of an image lie that is being written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub_block::BlockDevice;
use hub_domain::ids::BackupJobId;
use hub_qcow2::{ImageWriter, Placements};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;

/// Keeps the journal of one image; dropping it ends the writing.
pub(crate) struct Checkpoints {
    task: JoinSet<()>,
    stop: CancellationToken,
    /// Whether the end is a checkpoint as well.
    last: Arc<AtomicBool>,
}

/// What a journal goes on from: itself, where there is one, and what it has told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) journal: Option<Journal>,
    pub(crate) placements: Placements,
}

/// Which image a journal is of.
pub(crate) fn identity(point: BackupJobId, capacity: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sendense-extent-journal-v1");
    hasher.update(point.as_uuid().as_bytes());
    hasher.update(&capacity.to_le_bytes());
    hasher.finalize().into()
}

impl Checkpoints {
    /// Writes a checkpoint at every interval until it is dropped; a failure ends the journal and not the copy.
    pub(crate) fn start(
        image: Arc<ImageWriter>,
        path: PathBuf,
        identity: [u8; 32],
        told: Told,
        every: Duration,
    ) -> Self {
        let (mut task, stop) = (JoinSet::new(), CancellationToken::new());
        let (stopped, last) = (stop.clone(), Arc::<AtomicBool>::default());
        let one_more = last.clone();
        task.spawn(async move {
            let Told { mut journal, mut placements } = told;
            loop {
                let waited = stopped.run_until_cancelled(tokio::time::sleep(every)).await;
                let ends = waited.is_none();
                if ends && !one_more.load(Ordering::Acquire) {
                    return;
                }
                match checkpoint(&image, &path, &identity, journal, placements).await {
                    Ok(_) if ends => return,
                    Ok((next, places)) => (journal, placements) = (next, places),
                    Err(error) => {
                        tracing::warn!(
                            journal = %path.display(), error = %hub_ports::told(&error),
                            "an unfinished image is not written down any more; after a restart it goes on from what was written down before"
                        );
                        return;
                    }
                }
            }
        });
        Self { task, stop, last }
    }

    /// Ends the writing with one last checkpoint.
    pub(crate) async fn end_complete(self) {
        self.last.store(true, Ordering::Release);
        self.end().await;
    }

    /// Ends the writing, and waits for a checkpoint that has begun: afterwards the journal is nobody's.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// First the places, then the sync that covers their bytes, then the journal: it never speaks of what could be lost.
async fn checkpoint(
    image: &Arc<ImageWriter>,
    path: &Path,
    identity: &[u8; 32],
    journal: Option<Journal>,
    mut placements: Placements,
) -> io::Result<(Option<Journal>, Placements)> {
    let writer = image.clone();
    let look = move || {
        let runs = writer.newly_placed(&mut placements).map_err(io::Error::other)?;
        Ok::<_, io::Error>((runs, placements))
    };
    let (runs, placements) = tokio::task::spawn_blocking(look).await??;
    if runs.is_empty() {
        return Ok((journal, placements));
    }
    image.flush().await.map_err(io::Error::other)?;
    let (path, identity) = (path.to_owned(), *identity);
    let write = move || {
        let mut journal = match journal {
            Some(journal) => journal,
            None => Journal::create_new(&path, &identity)?,
        };
        journal.append(&runs)?;
        Ok(journal)
    };
    let written: io::Result<Journal> = tokio::task::spawn_blocking(write).await?;
    Ok((Some(written?), placements))
}
