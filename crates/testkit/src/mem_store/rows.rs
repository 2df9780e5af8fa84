//! The tables of the catalogue in memory, each ordered as its lists are.

use std::collections::BTreeMap;

use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::disk::VmDisk;
use hub_domain::ids::{
    ApiTokenId, BackupJobId, BackupRunId, CredentialId, ReplicationJobId, RepositoryId,
    RestoreJobId, VerificationId, VmContextId, VmDiskId, VmaNodeId,
};
use hub_domain::owed::OwedCleanup;
use hub_domain::replication::ReplicationJob;
use hub_domain::repository::Repository;
use hub_domain::restore::{RestoreJob, Verification};
use hub_domain::vm::VmContext;

/// Everything that is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// Counts the changes of each VM, for locks.
    versions: BTreeMap<VmContextId, u64>,
    pub(super) vms: BTreeMap<VmContextId, VmContext>,
    pub(super) disks: BTreeMap<VmDiskId, VmDisk>,
    pub(super) replications: BTreeMap<ReplicationJobId, ReplicationJob>,
    pub(super) runs: BTreeMap<BackupRunId, BackupRun>,
    pub(super) backups: BTreeMap<BackupJobId, BackupJob>,
    pub(super) chains: BTreeMap<ChainKey, BackupChain>,
    pub(super) restores: BTreeMap<RestoreJobId, RestoreJob>,
    pub(super) verifications: BTreeMap<VerificationId, Verification>,
    pub(super) repositories: BTreeMap<RepositoryId, Repository>,
    pub(super) credentials: BTreeMap<CredentialId, Credential>,
    pub(super) vma_nodes: BTreeMap<VmaNodeId, VmaNode>,
    pub(super) owed: BTreeMap<String, OwedCleanup>,
    pub(super) api_tokens: BTreeMap<ApiTokenId, ApiToken>,
}

impl Rows {
    /// How often a VM has changed.
    pub(super) fn version_of(&self, vm: VmContextId) -> u64 {
        self.versions.get(&vm).copied().unwrap_or(0)
    }

    /// Counts a change of a VM.
    pub(super) fn touch(&mut self, vm: VmContextId) {
        *self.versions.entry(vm).or_insert(0) += 1;
    }
}
