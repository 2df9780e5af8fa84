//! Audits a whole chain by a copy that reads the whole disk anyway, such as the full that ends the chain: otherwise it
//! would heal in silence what the source had left out, and nobody would ever doubt the points that lack it.

use hub_domain::backup::BackupJob;
use hub_domain::chain::{ancestry, chain_to_audit};
use hub_domain::disk::VmDisk;
use hub_domain::ids::BackupJobId;
use hub_domain::preflight::Preflight;
use hub_domain::repository::Repository;
use hub_domain::source::{ChainAuditOrder, CopyMethod, DiskCopyStatus, ParentTable};
use hub_ports::{PointLocation, told};

use crate::Backup;
use crate::preparation::DiskWork;

/// The chain that a copy audits if it reads the whole disk.
pub(crate) struct AuditedChain {
    /// Its latest point, whose digests the VMA compares with.
    latest: PointLocation,
    /// The mark of that point.
    change_id: String,
    /// Its points as they were when the job began: one that is deleted meanwhile takes no other from doubt.
    pub(crate) points: Vec<BackupJobId>,
    /// Those digests on offer, during an attempt that is ordered with this audit, or why there are none.
    table: Option<Result<ParentTable, String>>,
    /// Whether its source was found to have left out a change.
    pub(crate) is_doubted: bool,
}

impl AuditedChain {
    /// The latest chain of a disk, where the mark of its latest point is believable.
    pub(crate) fn of(
        disk: &VmDisk,
        points: &[BackupJob],
        preflight: &Preflight,
        repository: &Repository,
    ) -> Option<Self> {
        let (latest, change_id) = chain_to_audit(disk, points, preflight)?;
        let (point, ordinal, path) = (latest.id, latest.ordinal, latest.path.clone()?);
        Some(Self {
            latest: PointLocation { point, ordinal, repository: repository.clone(), path },
            change_id,
            points: ancestry(points, point),
            table: None,
            is_doubted: false,
        })
    }

    /// The order for the attempt that its digests are on offer for.
    pub(crate) fn order(&self, from: u64) -> Option<ChainAuditOrder> {
        let table = self.table.as_ref()?.as_ref().ok()?.clone();
        Some(ChainAuditOrder { change_id: self.change_id.clone(), table, from })
    }
}

impl Backup {
    /// Offers the digests of a chain to a copy that reads the whole disk; a copy goes on without them.
    pub(crate) async fn offer_chain(&self, disk: &mut DiskWork) {
        let reads_all = disk.kept || !matches!(disk.method, CopyMethod::ChangedSince { .. });
        let Some(chain) = disk.chain.as_mut().filter(|it| reads_all && !it.is_doubted) else {
            return;
        };
        let offered = self.storage.export_digests(&chain.latest).await;
        chain.table = Some(offered.map_err(|error| told(&error)));
    }

    /// Takes back what was offered, after each attempt.
    pub(crate) async fn withdraw_chains(&self, disks: &mut [DiskWork]) {
        for disk in disks {
            let offered = disk.chain.as_mut().and_then(|chain| chain.table.take());
            let Some(Ok(table)) = offered else { continue };
            if let Err(error) = self.storage.close_export(&table.address.export).await {
                tracing::warn!(error = %told(&error), "the digests of a chain stay on offer");
            }
        }
    }
}

impl DiskWork {
    /// Whether this attempt was ordered to audit a chain.
    pub(crate) fn audits_chain(&self) -> bool {
        self.chain.as_ref().is_some_and(|it| matches!(it.table, Some(Ok(_))))
    }

    /// A report as far as it is believed: a source that was caught gives no mark that the next copy could rely on.
    pub(crate) fn believed(&self, report: &DiskCopyStatus) -> DiskCopyStatus {
        let is_doubted = self.chain.as_ref().is_some_and(|it| it.is_doubted);
        let change_id = report.change_id.clone().filter(|_| !is_doubted);
        DiskCopyStatus { change_id, ..report.clone() }
    }

    /// Why the chain was not audited though everything was read, where the VMA did not say it itself.
    pub(crate) fn chain_not_audited(&self, report: &DiskCopyStatus, vma: &str) -> Option<String> {
        let table = self.chain.as_ref()?.table.as_ref().filter(|_| report.audit.is_none())?;
        let told = report.method_reason.as_deref();
        let why = match table {
            Err(error) => error.clone(),
            // A VMA that knows how has said why it did not; whatever else is said is no reason for that.
            Ok(_) if told.is_some_and(|it| it.contains("not audited")) => return None,
            Ok(_) => format!("the VMA {vma} does not know how, so update it"),
        };
        Some(format!(
            "what the source told until the latest backup was not audited as a whole: {why}"
        ))
    }
}
