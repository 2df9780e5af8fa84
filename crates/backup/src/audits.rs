//! Hears what the audit of a source's word about changes has found, and marks a chain whose source has lied.

use hub_domain::audit::{Lie, Suspicion};
use hub_domain::chain::ancestry;
use hub_domain::ids::BackupJobId;
use hub_domain::source::{CopyMethod, DiskCopyStatus, method_reason};
use hub_ports::{StoreError, UnitOfWork};

use crate::Backup;
use crate::completion::lock_if_there;
use crate::preparation::DiskWork;
use crate::run::Scene;

impl Backup {
    /// Notes what an audit has looked at; a lie is durable, with every point of its chain, before the run goes on.
    ///
    /// A hub that dies before finds the lie again: an incremental that was cut begins anew, with its audit.
    pub(crate) async fn hear_of_audit(
        &self,
        disk: &mut DiskWork,
        report: &DiskCopyStatus,
    ) -> Result<(), StoreError> {
        let is_ordered = disk.audit.is_some() || disk.audits_chain();
        let Some((audited, lie)) = report.audit.as_ref().filter(|_| is_ordered) else {
            return Ok(());
        };
        disk.audit_heard = true;
        disk.job.audited = *audited;
        let Some(lie) = lie else { return Ok(()) };
        let found_at = self.clock.now();
        let why = Suspicion { found_by: disk.job.id, found_at, lie: lie.clone() };
        let chain = disk.chain.as_ref().map(|it| it.points.clone()).unwrap_or_default();
        if disk.chain.as_ref().is_some_and(|it| it.is_doubted) {
            return Ok(());
        }
        self.patiently(|| self.suspect(disk.job.id, &chain, &why)).await?;
        tell(disk, lie);
        if let Some(chain) = disk.chain.as_mut() {
            chain.is_doubted = true;
        }
        if disk.order.parent.is_none() {
            // A full stands on nothing that the source has said.
            return Ok(());
        }
        // Whatever is attempted from here on relies on nothing that this source says.
        disk.method = CopyMethod::ByDigest;
        disk.audit = None;
        Ok(())
    }

    /// Marks the chain that was audited, and an incremental with everything that it stands on; what is marked already
    /// keeps its first mark.
    async fn suspect(
        &self,
        found_by: BackupJobId,
        chain: &[BackupJobId],
        why: &Suspicion,
    ) -> Result<(), StoreError> {
        let mut work = self.store.begin().await?;
        let Some(finder) = work.backup(found_by).await? else { return Ok(()) };
        lock_if_there(work.as_mut(), &finder).await?;
        let mut doubted = chain.to_vec();
        if finder.parent.is_some() {
            doubted.extend(ancestry(&work.backups_of_chain(finder.chain_key()).await?, found_by));
        }
        for id in doubted {
            mark(work.as_mut(), id, why).await?;
        }
        work.commit().await
    }
}

async fn mark(
    work: &mut dyn UnitOfWork,
    id: BackupJobId,
    why: &Suspicion,
) -> Result<(), StoreError> {
    let Some(mut job) = work.backup(id).await? else { return Ok(()) };
    if job.suspicion.is_none() {
        job.suspicion = Some(why.clone());
        work.update_backup(&mut job).await?;
    }
    Ok(())
}

fn tell(disk: &DiskWork, lie: &Lie) {
    let what_follows = if disk.order.parent.is_some() {
        "the chain is suspect, this backup reads the whole disk, and the next one is a full"
    } else {
        "the chain before is suspect, this full stands on its own, and the next backup reads the whole disk"
    };
    tracing::error!(
        backup.id = %disk.job.id, vm.name = %disk.job.vm_name, disk.ordinal = disk.job.ordinal,
        offset = lie.offset, blocks = lie.blocks, expected = %lie.expected, found = %lie.found,
        "the source left out a change: {what_follows}"
    );
}

/// Puts on each job that its source was believed without an audit, and warns of it once.
///
/// A VMA from before the audit ignores its order, and where nothing is looked for nothing is found.
/// An audit of no block is one: everything was read as changed.
pub(crate) fn say_what_was_not_audited(scene: &Scene, disks: &mut [DiskWork]) {
    for disk in disks.iter_mut().filter(|disk| !disk.settled) {
        let Some(mut report) = disk.copied.take() else { continue };
        if let Some(reason) = disk.chain_not_audited(&report, &scene.node.name) {
            report.method_reason =
                method_reason(report.method_reason.as_deref(), Some(reason.as_str()));
        }
        disk.copied = Some(report);
    }
    let mut disks_believed = 0;
    for disk in disks.iter_mut().filter(|disk| !disk.settled && disk.audit_is_open()) {
        let believed = |it: &&mut DiskCopyStatus| it.method == CopyMethod::CHANGED_SINCE;
        let Some(report) = disk.copied.as_mut().filter(believed) else { continue };
        disks_believed += 1;
        report.method_reason.get_or_insert_with(|| {
            format!(
                "what changed was not audited: the VMA {} does not know how, so update it",
                scene.node.name
            )
        });
    }
    if disks_believed > 0 {
        tracing::warn!(
            run.id = %scene.run.id, vma.name = %scene.node.name, disks = disks_believed,
            "the VMA has ignored the order to audit what its source calls unchanged; update it"
        );
    }
}

impl DiskWork {
    /// Whether an audit was ordered and nothing heard of it, so that what has arrived may hide a change that it would
    /// have found: the next attempt begins anew, and not with what is there.
    pub(crate) fn audit_is_open(&self) -> bool {
        self.audit.is_some() && !self.audit_heard
    }
}
