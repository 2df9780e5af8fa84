//! The datastore folder: VMs as files, laid out as on a VMware datastore.

mod change_id;
mod folder_vm;
mod listing;
mod plan;
mod snapshot;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use hub_vma_api::{DiscoverRequest, Inventory, Vcenter, Warning};

use crate::source::{OpenRequest, Snapshot, Source, SourceError};
use crate::vmdk::Datastore;
use folder_vm::FolderVm;
use plan::PlannedDisk;
use snapshot::FolderSnapshot;

/// How a folder source is set up.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// The name it answers with in place of a vCenter's.
    pub name: String,
    /// The datastores: directories whose subdirectories hold VMs.
    pub datastores: Vec<PathBuf>,
}

/// A source that reads .vmx and .vmdk files.
#[derive(Clone, Debug)]
pub struct FolderSource {
    options: Arc<FolderOptions>,
}

/// Why a folder source cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There would never be a VM.
    #[error("no datastore is configured; name at least one directory")]
    NoDatastore,
    /// Paths of the two could not be told apart.
    #[error("two datastores are named `{0}`; a datastore is named as its directory")]
    SameName(String),
}

impl FolderSource {
    /// A source over directories, which may be mounted later.
    pub fn new(options: FolderOptions) -> Result<Self, FolderError> {
        if options.datastores.is_empty() {
            return Err(FolderError::NoDatastore);
        }
        for (index, path) in options.datastores.iter().enumerate() {
            let others = options.datastores.iter().take(index);
            if others.into_iter().any(|it| it.file_name() == path.file_name()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Err(FolderError::SameName(name.into_owned()));
            }
        }
        Ok(Self { options: Arc::new(options) })
    }

    /// All VMs that can be read, those with a doubtful id left out, and what was left out.
    async fn vms(&self) -> Result<Found, SourceError> {
        let options = self.options.clone();
        let walked = blocking(move || {
            let stores = open_datastores(&options.datastores)?;
            let walked = walk::find(&stores);
            Ok((stores, walked))
        });
        let (stores, walk::Walked { files, mut warnings }) = walked.await??;
        let read = walk::in_parallel(files, |file| FolderVm::read(&file)).await?;
        let mut vms = Vec::with_capacity(read.len());
        for result in read {
            match result {
                Ok(vm) => vms.push(vm),
                Err(warning) => warnings.push(warning),
            }
        }
        let (vms, doubles) = without_doubles(vms);
        warnings.extend(doubles.iter().flat_map(|it| it.warnings.clone()));
        Ok(Found { stores, vms, doubles, warnings })
    }

    /// The disks that a request means, and the layers to read.
    async fn plan(&self, request: &OpenRequest) -> Result<Vec<PlannedDisk>, SourceError> {
        let found = self.vms().await?;
        let (stores, vm) = (found.stores.clone(), found.vm(&request.vm_id)?);
        let asked = request.disks.clone();
        blocking(move || plan::plan(&stores, &vm, &asked)).await?
    }
}

#[async_trait]
impl Source for FolderSource {
    fn kind(&self) -> &'static str {
        "folder"
    }

    async fn inventory(&self, request: &DiscoverRequest) -> Result<Inventory, SourceError> {
        let Found { stores, vms, mut warnings, .. } = self.vms().await?;
        let filter = request.filter.clone().unwrap_or_default();
        let everything = filter.names.is_empty() && filter.ids.is_empty();
        let wanted = |it: &FolderVm| {
            everything || filter.names.contains(&it.name) || filter.ids.contains(&it.id)
        };
        let wanted = vms.into_iter().filter(wanted).collect();
        let source = self.options.name.clone();
        let listed =
            walk::in_parallel(wanted, move |it: FolderVm| listing::vm(&source, &stores, &it));
        let mut vms = Vec::new();
        for result in listed.await? {
            match result {
                Ok(vm) => vms.push(vm),
                Err(warning) => warnings.push(warning),
            }
        }
        let vcenter = Vcenter { host: self.options.name.clone(), ..Vcenter::default() };
        Ok(Inventory { vcenter, vms, warnings })
    }

    async fn check(&self, request: &OpenRequest) -> Result<(), SourceError> {
        self.plan(request).await.map(drop)
    }

    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Snapshot>, SourceError> {
        let planned = self.plan(request).await?;
        Ok(Box::new(FolderSnapshot::open(planned).await?))
    }
}

/// What a scan found.
struct Found {
    stores: Arc<[Datastore]>,
    vms: Vec<FolderVm>,
    doubles: Vec<Double>,
    warnings: Vec<Warning>,
}

impl Found {
    fn vm(self, id: &str) -> Result<FolderVm, SourceError> {
        if let Some(double) = self.doubles.into_iter().find(|it| it.id == id) {
            let Double { id, first, second, .. } = double;
            return Err(SourceError::VmAmbiguous { id, first, second });
        }
        let found = self.vms.into_iter().find(|it| it.id == id);
        found.ok_or_else(|| SourceError::VmNotFound(id.chars().take(200).collect()))
    }
}

/// An id that two VMs have: copied folders, mostly.
struct Double {
    id: String,
    first: String,
    second: String,
    warnings: [Warning; 2],
}

impl Double {
    fn new(first: &FolderVm, second: &FolderVm) -> Self {
        let warn = |it: &FolderVm, other: &FolderVm| {
            it.warning(&format!(
                "it has the id {} as `{}` does, so neither is listed; give one of them another uuid.bios",
                it.id,
                other.label()
            ))
        };
        Self {
            id: first.id.clone(),
            warnings: [warn(first, second), warn(second, first)],
            first: first.label(),
            second: second.label(),
        }
    }
}

/// Leaves out every VM whose id another one has too: guessing could send one VM's bytes to the other's images.
fn without_doubles(vms: Vec<FolderVm>) -> (Vec<FolderVm>, Vec<Double>) {
    let mut by_id: HashMap<String, usize> = HashMap::with_capacity(vms.len());
    let mut doubles = Vec::new();
    let mut twice = vec![false; vms.len()];
    for (index, vm) in vms.iter().enumerate() {
        match by_id.get(&vm.id).copied() {
            None => {
                by_id.insert(vm.id.clone(), index);
            }
            Some(first) => {
                for it in [first, index] {
                    if let Some(mark) = twice.get_mut(it) {
                        *mark = true;
                    }
                }
                doubles.extend(vms.get(first).map(|first| Double::new(first, vm)));
            }
        }
    }
    let kept = vms.into_iter().zip(twice).filter(|(_, twice)| !twice);
    (kept.map(|(vm, _)| vm).collect(), doubles)
}

/// A missing datastore is an error and not an empty one: an empty list would retire every VM on it.
fn open_datastores(roots: &[PathBuf]) -> Result<Arc<[Datastore]>, SourceError> {
    let open = |root: &PathBuf| {
        let opened = Datastore::open(root);
        opened.map_err(|error| unavailable(root, &error))
    };
    let stores = roots.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    for (index, inner) in stores.iter().enumerate() {
        let mut others = stores.iter().enumerate().filter(|(other, _)| *other != index);
        if others.any(|(_, outer)| inner.root().starts_with(outer.root())) {
            let path = inner.root().display().to_string();
            let reason = "it lies inside another configured datastore".to_owned();
            return Err(SourceError::Unavailable { path, reason });
        }
    }
    Ok(stores.into())
}

fn unavailable(root: &Path, error: &std::io::Error) -> SourceError {
    SourceError::Unavailable { path: root.display().to_string(), reason: error.to_string() }
}

/// Runs file-system work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SourceError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| SourceError::Internal(error.to_string()))
}
