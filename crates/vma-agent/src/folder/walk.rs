//! Finding the .vmx files of the datastores, and doing something with many files at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_vma_api::Warning;
use tokio::task::JoinSet;

use crate::source::SourceError;
use crate::vmdk::Datastore;

/// How deep below a datastore's root VMs are looked for.
const MAX_DEPTH: usize = 3;

/// The most .vmx files that are taken; far more than any source has, so that memory stays bounded.
const MAX_VMX_FILES: usize = 200_000;

/// Threads that read files at a time: enough to hide the latency of a network share.
const PARALLEL: usize = 4;

/// Files per task, so that a task is worth its start.
const BATCH: usize = 128;

/// A .vmx file and what its directory tells.
#[derive(Clone, Debug)]
pub(super) struct VmxFile {
    pub(super) store: Datastore,
    pub(super) path: PathBuf,
    /// Whether the directory holds a lock.
    pub(super) locked: bool,
}

/// The outcome of a walk.
pub(super) struct Walked {
    pub(super) files: Vec<VmxFile>,
    pub(super) warnings: Vec<Warning>,
}

/// All .vmx files one to three levels below the datastores' roots, in the order of their paths.
pub(super) fn find(stores: &[Datastore]) -> Walked {
    let mut walked = Walked { files: Vec::new(), warnings: Vec::new() };
    for store in stores {
        let mut ahead = vec![(store.root().to_owned(), 0)];
        while let Some((directory, depth)) = ahead.pop() {
            let visited = walked.visit(store, &directory, depth);
            match visited {
                Ok(deeper) => ahead.extend(deeper.into_iter().map(|it| (it, depth + 1))),
                Err(error) => walked.warn(store, &directory, format!("it cannot be read: {error}")),
            }
        }
    }
    walked.files.sort_by(|a, b| a.path.cmp(&b.path));
    walked
}

impl Walked {
    /// Takes the .vmx files of one directory and answers the directories to go on with.
    fn visit(&mut self, store: &Datastore, at: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut deeper = Vec::new();
        let mut locked = false;
        for entry in fs::read_dir(at)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            locked |= is_lock(&name);
            // Hidden directories are those of the file system itself, such as an NFS server's snapshots.
            if name.starts_with('.') || is_lock(&name) {
                continue;
            }
            let kind = entry.file_type()?;
            let is_vmx = name.to_ascii_lowercase().ends_with(".vmx");
            if kind.is_dir() && depth < MAX_DEPTH {
                deeper.push(entry.path());
            } else if kind.is_symlink() && (is_vmx || entry.path().is_dir()) {
                let what = "it is a symbolic link, which is not followed".to_owned();
                self.warn(store, &entry.path(), what);
            } else if kind.is_file() && is_vmx && depth > 0 {
                found.push(entry.path());
            }
        }
        for path in found {
            if self.files.len() >= MAX_VMX_FILES {
                self.warn(store, &path, "there are too many VMs; it is not listed".to_owned());
                return Ok(Vec::new());
            }
            self.files.push(VmxFile { store: store.clone(), path, locked });
        }
        Ok(deeper)
    }

    fn warn(&mut self, store: &Datastore, path: &Path, detail: String) {
        self.warnings.push(Warning { subject: store.label(path), detail });
    }
}

/// Whether a directory holds the lock of a running VM.
pub(super) fn is_locked(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if is_lock(&entry?.file_name().to_string_lossy()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `pgtest1.vmx.lck` and `pgtest1.vmdk.lck` as Workstation and ESXi write them, `.lck-…` as ESXi writes on NFS.
fn is_lock(name: &str) -> bool {
    name.ends_with(".lck") || name.starts_with(".lck-")
}

/// Does blocking work on each item, some at a time, and answers in the order of the items.
pub(super) async fn in_parallel<T, U>(
    items: Vec<T>,
    work: impl Fn(T) -> U + Send + Sync + 'static,
) -> Result<Vec<U>, SourceError>
where
    T: Send + 'static,
    U: Send + 'static,
{
    let work = Arc::new(work);
    let mut done: Vec<(usize, Vec<U>)> = Vec::new();
    let mut running = JoinSet::new();
    let mut items = items.into_iter();
    for number in 0.. {
        let batch: Vec<T> = items.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        if running.len() >= PARALLEL {
            done.extend(joined(running.join_next().await)?);
        }
        let work = work.clone();
        running.spawn_blocking(move || (number, batch.into_iter().map(|it| work(it)).collect()));
    }
    while let Some(batch) = joined(running.join_next().await)? {
        done.push(batch);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().flat_map(|(_, results)| results).collect())
}

fn joined<T>(result: Option<Result<T, tokio::task::JoinError>>) -> Result<Option<T>, SourceError> {
    result.transpose().map_err(|error| SourceError::Internal(error.to_string()))
}
