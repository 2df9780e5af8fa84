//! Starts a replication: links the disk rows that are there and stores the job, in one unit of work.

use hub_domain::attempt::Attempt;
use hub_domain::disk::VmDisk;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::JobState;
use hub_domain::limits::ByteRate;
use hub_domain::preflight::Preflight;
use hub_domain::remarks::Remarks;
use hub_domain::replication::{ReplicaDisk, ReplicaFormat, ReplicationJob, ReplicationKind};
use hub_domain::source::CopyBytes;
use hub_domain::vm::{ContextStatus, VmAddress, VmContext};
use hub_ports::store::{FindVmError, all_readable, find_vm};
use hub_ports::{StoreError, retry_conflicts};

use crate::legacy::Missing;
use crate::{Replication, StartReplicationError};

/// Asks for a replication.
#[derive(Clone, Debug)]
pub struct StartReplication {
    /// Which VM; all of its disks are replicated.
    pub vm: VmAddress,
    /// From the beginning, or what has changed.
    pub kind: ReplicationKind,
    /// What the replicas are.
    pub format: ReplicaFormat,
    /// What it may send per second; without, as much as the VMA may.
    pub rate: Option<ByteRate>,
    /// Whether the guest is quiesced for the snapshot; without, as its VMA is set up.
    pub quiesce: Option<bool>,
}

/// A replication that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The job.
    pub job: ReplicationJob,
    /// Whether this request made it.
    pub is_new: bool,
}

impl Replication {
    /// Stores a queued job and links every disk row of the VM to it; the caller then runs it with [`run`](Self::run).
    ///
    /// The same request again, while its job is at work, answers with that job (promise P8). A caller whose tasks have
    /// keys hands over either answer: the job may be stored and not yet at work, when an earlier answer was lost.
    pub async fn start(
        &self,
        request: &StartReplication,
    ) -> Result<Started, StartReplicationError> {
        let mut view = self.store.view().await?;
        let vm = find_vm(view.as_mut(), &request.vm).await?;
        drop(view);
        let missing = self.missing_disks(&vm).await?;
        retry_conflicts(|| self.try_start(request, &vm, missing.as_ref())).await
    }

    async fn try_start(
        &self,
        request: &StartReplication,
        vm: &VmContext,
        missing: Option<&Missing>,
    ) -> Result<Started, StartReplicationError> {
        let gone = || StartReplicationError::FindVm(FindVmError::NotFound(vm.id.to_string()));
        let mut work = self.store.begin().await?;
        match work.lock_vm(vm.id).await {
            Err(StoreError::Missing(_)) => return Err(gone()),
            done => done?,
        }
        let vm = work.vm(vm.id).await?.ok_or_else(gone)?;
        let unfinished = all_readable(work.unfinished_replications(Some(vm.id)).await?)?;
        if let Some(running) = unfinished.into_iter().next() {
            let same = running.kind == request.kind
                && running.format == request.format
                && running.rate == request.rate
                && running.quiesce == request.quiesce;
            if same {
                return Ok(Started { job: running, is_new: false });
            }
            return Err(StartReplicationError::AlreadyRunning(running.id));
        }
        let disks = self.store_missing_disks(work.as_mut(), &vm, missing).await?;
        let mut present: Vec<&VmDisk> = disks.iter().filter(|disk| disk.is_present()).collect();
        if present.is_empty() {
            return Err(StartReplicationError::NoDisks { vm_name: vm.facts.name });
        }
        // A replica without one of its disks starts nowhere, so that one blocked disk refuses all.
        let preflight = Preflight::of(&vm.facts, present.iter().map(|disk| &disk.facts));
        let mut blocked = present.iter().filter_map(|it| preflight.disk_blocked(&it.facts.key));
        if let Some(concern) = preflight.vm_blocked().or_else(|| blocked.next()) {
            return Err(StartReplicationError::Blocked(concern.clone()));
        }
        let warnings = preflight.warnings(present.iter().map(|disk| &disk.facts.key));
        present.sort_by_key(|disk| disk.ordinal);
        let now = self.clock.now();
        let job = ReplicationJob {
            id: ReplicationJobId::from_uuid(self.ids.new_id()),
            vm: vm.id,
            kind: request.kind,
            format: request.format,
            rate: request.rate,
            quiesce: request.quiesce,
            quiescence: None,
            state: JobState::Queued,
            attempt: Attempt::default(),
            remarks: Remarks { copied_by: None, warnings },
            disks: present.into_iter().map(replica_disk).collect(),
            version: 1,
            created_at: now,
        };
        work.insert_replication(&job).await?;
        work.link_disks(vm.id, job.id, now).await?;
        work.set_vm_status(vm.id, ContextStatus::Replicating, now).await?;
        work.commit().await?;
        tracing::info!(job.id = %job.id, vm.id = %job.vm, disks = job.disks.len(), "a replication was asked for");
        Ok(Started { job, is_new: true })
    }
}

fn replica_disk(disk: &VmDisk) -> ReplicaDisk {
    ReplicaDisk {
        disk: disk.id,
        ordinal: disk.ordinal,
        key: disk.facts.key.clone(),
        path: None,
        method: None,
        method_reason: None,
        read_by: None,
        bytes: CopyBytes { total: disk.facts.capacity.bytes(), ..CopyBytes::default() },
        root: None,
    }
}
