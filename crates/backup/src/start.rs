//! Starts a backup: finds the disks, plans each, and stores run and jobs in one unit of work.

use std::collections::BTreeSet;

use hub_domain::attempt::Attempt;
use hub_domain::audit::{AuditRuns, Audited};
use hub_domain::backup::{BackupJob, BackupRun, BackupType};
use hub_domain::chain::{ChainKey, DiskPlan, plan_disk_backup};
use hub_domain::compression::Compression;
use hub_domain::disk::VmDisk;
use hub_domain::ids::{BackupJobId, BackupRunId, PolicyId, RepositoryId, VmContextId};
use hub_domain::job::JobState;
use hub_domain::limits::ByteRate;
use hub_domain::preflight::Preflight;
use hub_domain::remarks::{Remarks, Warning};
use hub_domain::selector::DiskSelector;
use hub_domain::source::CopyBytes;
use hub_domain::vm::{VmAddress, VmContext};
use hub_ports::store::{FindVmError, all_readable, find_vm, reader};
use hub_ports::{StoreError, UnitOfWork, retry_conflicts};

use crate::{Backup, StartBackupError};

/// Asks for a backup.
#[derive(Clone, Debug)]
pub struct StartBackup {
    /// Which VM.
    pub vm: VmAddress,
    /// Which of its disks; all of them stand under one instant.
    pub disks: DiskSelector,
    /// Full, or incremental where a disk has a point to stand on.
    pub backup_type: BackupType,
    /// Where the images go.
    pub repository: RepositoryId,
    /// The policy that asks, if one does.
    pub policy: Option<PolicyId>,
    /// Words of the user's own.
    pub tags: Vec<String>,
    /// What it may send per second; without, as much as the VMA may.
    pub rate: Option<ByteRate>,
    /// Within how many runs every block of a disk is audited; without, as the hub is set.
    pub audit_runs: Option<AuditRuns>,
    /// Whether the guest is quiesced for the snapshot; without, as its VMA is set up.
    pub quiesce: Option<bool>,
}

/// A run that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedRun {
    /// The run.
    pub run: BackupRun,
    /// Its jobs, by ordinal.
    pub jobs: Vec<BackupJob>,
    /// Whether this request made it.
    pub is_new: bool,
}

impl Backup {
    /// Stores a run with one queued job per disk; the caller then runs it with [`run`](Self::run).
    ///
    /// The same request again, while its run is at work, answers with that run (promise P8). A caller whose tasks have
    /// keys hands over either answer: the run may be stored and not yet at work, when an earlier answer was lost.
    pub async fn start(&self, request: &StartBackup) -> Result<StartedRun, StartBackupError> {
        retry_conflicts(|| self.try_start(request)).await
    }

    async fn try_start(&self, request: &StartBackup) -> Result<StartedRun, StartBackupError> {
        let mut view = self.store.view().await?;
        let found = find_vm(view.as_mut(), &request.vm).await?;
        drop(view);
        let mut work = self.store.begin().await?;
        let vm = locked(work.as_mut(), found.id).await?;
        let Some(repository) = work.repository(request.repository).await? else {
            return Err(StartBackupError::RepositoryNotFound(request.repository));
        };
        let disks = work.disks_of(&[vm.id]).await?;
        let chosen = choose(&vm, &disks, &request.disks)?;
        check_reach(work.as_mut(), &vm).await?;
        if let Some(running) = running(work.as_mut(), request, vm.id, &chosen).await? {
            return Ok(running);
        }
        let preflight = preflight(&vm, &disks);
        check_concerns(&preflight, &request.disks, &chosen)?;
        let warnings = preflight.warnings(chosen.iter().map(|disk| &disk.facts.key));
        let run = self.new_run(request, &vm, warnings);
        let mut jobs = Vec::with_capacity(chosen.len());
        for disk in chosen {
            let key = ChainKey { vm: vm.id, ordinal: disk.ordinal, repository: run.repository };
            let points = work.backups_of_chain(key).await?;
            let plan = plan_disk_backup(run.backup_type, disk, &points)
                .weighed(&preflight, &disk.facts.key);
            jobs.push(self.new_job(&run, disk, plan, repository.settings.compression));
        }
        work.insert_backup_run(&run, &jobs).await?;
        work.commit().await?;
        tracing::info!(run.id = %run.id, vm.id = %run.vm, disks = jobs.len(), "a backup was asked for");
        Ok(StartedRun { run, jobs, is_new: true })
    }

    fn new_run(&self, request: &StartBackup, vm: &VmContext, warnings: Vec<Warning>) -> BackupRun {
        BackupRun {
            id: BackupRunId::from_uuid(self.ids.new_id()),
            vm: vm.id,
            vm_name: vm.facts.name.clone(),
            repository: request.repository,
            policy: request.policy,
            backup_type: request.backup_type,
            tags: request.tags.clone(),
            rate: request.rate,
            audit_runs: request.audit_runs,
            quiesce: request.quiesce,
            remarks: Remarks { copied_by: None, warnings },
            created_at: self.clock.now(),
        }
    }

    fn new_job(
        &self,
        run: &BackupRun,
        disk: &VmDisk,
        plan: DiskPlan,
        compression: Compression,
    ) -> BackupJob {
        BackupJob {
            id: BackupJobId::from_uuid(self.ids.new_id()),
            run: run.id,
            vm: run.vm,
            vm_name: run.vm_name.clone(),
            ordinal: disk.ordinal,
            disk: Some(disk.id),
            disk_key: disk.facts.key.clone(),
            repository: run.repository,
            policy: run.policy,
            backup_type: plan.backup_type,
            capacity: disk.facts.capacity,
            path: None,
            parent: plan.parent,
            change_id: None,
            method: plan.method.word().to_owned(),
            method_reason: plan.reason,
            quiescence: None,
            read_by: None,
            audited: Audited::default(),
            suspicion: None,
            compression,
            proof: None,
            bytes: CopyBytes::default(),
            stored_bytes: 0,
            state: JobState::Queued,
            attempt: Attempt::default(),
            deleting_since: None,
            version: 1,
            created_at: run.created_at,
        }
    }
}

/// Locks the VM, which may have been deleted since it was found.
async fn locked(work: &mut dyn UnitOfWork, id: VmContextId) -> Result<VmContext, StartBackupError> {
    let gone = || StartBackupError::FindVm(FindVmError::NotFound(id.to_string()));
    match work.lock_vm(id).await {
        Err(StoreError::Missing(_)) => return Err(gone()),
        done => done?,
    }
    work.vm(id).await?.ok_or_else(gone)
}

/// Whether the VM can be reached, asked before anything is stored (traps D3, C7).
async fn check_reach(work: &mut dyn UnitOfWork, vm: &VmContext) -> Result<(), StartBackupError> {
    let vm_name = vm.facts.name.clone();
    match reader(work, vm).await? {
        Err(reason) => Err(StartBackupError::NoVma { vm_name, reason }),
        Ok(node) if node.takes_snapshots() && vm.credential.is_none() => {
            Err(StartBackupError::NoLogin { vm_name })
        }
        Ok(_) => Ok(()),
    }
}

fn choose<'a>(
    vm: &VmContext,
    disks: &'a [VmDisk],
    asked: &DiskSelector,
) -> Result<Vec<&'a VmDisk>, StartBackupError> {
    if !disks.iter().any(|disk| disk.is_present()) {
        return Err(StartBackupError::NoDisks);
    }
    let chosen = asked.select(disks);
    if chosen.is_empty() {
        let vm_name = vm.facts.name.clone();
        return Err(StartBackupError::DiskNotFound { disk: asked.clone(), vm_name });
    }
    Ok(chosen)
}

/// What speaks against a backup of a VM with its present disks.
pub(crate) fn preflight(vm: &VmContext, disks: &[VmDisk]) -> Preflight {
    let present = disks.iter().filter(|disk| disk.is_present()).map(|disk| &disk.facts);
    Preflight::of(&vm.facts, present)
}

/// Refuses what is blocked: the VM, a disk that is asked for by itself, or every disk there is.
///
/// Where others can be copied, a blocked disk fails alone, when the run begins.
fn check_concerns(
    preflight: &Preflight,
    asked: &DiskSelector,
    chosen: &[&VmDisk],
) -> Result<(), StartBackupError> {
    let blocked = |disk: &&VmDisk| preflight.disk_blocked(&disk.facts.key);
    let of_disks = match asked {
        DiskSelector::All if chosen.iter().any(|disk| blocked(disk).is_none()) => None,
        DiskSelector::All | DiskSelector::Ordinal(_) | DiskSelector::Key(_) => {
            chosen.iter().find_map(blocked)
        }
    };
    match preflight.vm_blocked().or(of_disks) {
        Some(concern) => Err(StartBackupError::Blocked(concern.clone())),
        None => Ok(()),
    }
}

/// The run that is at work for this VM, when it is what is asked for.
async fn running(
    work: &mut dyn UnitOfWork,
    request: &StartBackup,
    vm: VmContextId,
    chosen: &[&VmDisk],
) -> Result<Option<StartedRun>, StartBackupError> {
    let unfinished = all_readable(work.unfinished_backups(Some(vm)).await?)?;
    let Some(first) = unfinished.first() else {
        return Ok(None);
    };
    let other = || StartBackupError::AlreadyRunning(first.run);
    let run = work.backup_run(first.run).await?.ok_or_else(other)?;
    let jobs = all_readable(work.backups_of_run(run.id).await?)?;
    let asked: BTreeSet<u32> = chosen.iter().map(|disk| disk.ordinal).collect();
    let at_work: BTreeSet<u32> = jobs.iter().map(|job| job.ordinal).collect();
    let same = run.repository == request.repository
        && run.backup_type == request.backup_type
        && run.policy == request.policy
        && run.tags == request.tags
        && run.rate == request.rate
        && run.audit_runs == request.audit_runs
        && run.quiesce == request.quiesce
        && asked == at_work;
    if same { Ok(Some(StartedRun { run, jobs, is_new: false })) } else { Err(other()) }
}

#[cfg(test)]
mod tests;
