//! The audit of what a source says about changes, before the copy relies on it.

use std::ops::Range;
use std::sync::Arc;

use hub_block::BlockDevice;
use hub_data_mover::{
    AuditSample, BlockSize, CopyOptions, CopyPlan, DigestTable, Found, Mismatch, VerifyOutcome,
    audit,
};
use hub_vma_api::{AuditOrder, AuditReport, Fault, Lie};

use super::{DiskCopy, fault};
use crate::source::Caught;

impl DiskCopy {
    /// The plan for areas that a source names, and why it is another one: nothing that a source has told is relied upon
    /// once a change is found that it did not tell.
    ///
    /// What was found is reported before this returns, so before the target is changed.
    pub(super) async fn audited(
        &self,
        source: &Arc<dyn BlockDevice>,
        table: &DigestTable,
        areas: Vec<Range<u64>>,
        change_id: &str,
        order: AuditOrder,
    ) -> Result<(CopyPlan, Option<String>), Fault> {
        let block = BlockSize::new(self.disk.block_size).map_err(|_| fault::internal())?;
        let capacity = self.disk.capacity_bytes;
        let sample = AuditSample::plan(capacity, block, &areas, order.runs, order.from);
        let looked = audit(
            source.clone(),
            table,
            &sample,
            CopyOptions::default(),
            self.job.progress(self.index),
            self.job.cancelled().clone(),
        );
        let looked = looked.await.map_err(|error| fault::of_copy(&error))?;
        let lie = lie(&looked);
        let reason = lie.as_ref().map(|lie| {
            let called = called_unchanged(lie, "the parent");
            format!("{called}; what it says about changes is not relied upon")
        });
        if let Some(lie) = &lie {
            tracing::warn!(
                offset = lie.offset,
                blocks = lie.blocks,
                expected = lie.expected,
                found = lie.found,
                "the source called blocks unchanged that have changed; the disk is read as a whole"
            );
        }
        if let (Some(why), Some(lie)) = (reason.clone(), lie.clone()) {
            let caught = Caught { why, change_id: change_id.to_owned(), lie };
            self.snapshot.distrust(self.index, &caught).await;
        }
        let plan = if lie.is_some() { CopyPlan::ByDigest } else { CopyPlan::Areas(areas) };
        self.job.disk_audited(
            self.index,
            AuditReport {
                blocks: sample.blocks(),
                bytes: sample.bytes(),
                next: sample.next(),
                lie,
            },
        );
        Ok((plan, reason))
    }

    /// Tells what an earlier audit has found of a mark: whoever is asking may have died before he was told, and the
    /// source that was caught is not asked again.
    pub(super) fn tell_again(&self, change_id: &str, from: u64) {
        let Some(lie) = self.snapshot.caught(self.index, change_id) else { return };
        let report = AuditReport { blocks: 0, bytes: 0, next: from, lie: Some(lie) };
        self.job.disk_audited(self.index, report);
    }
}

/// What the source did, in words.
pub(super) fn called_unchanged(lie: &Lie, point: &str) -> String {
    let what = if lie.blocks == 1 {
        "a block unchanged that differs".to_owned()
    } else {
        format!("{} blocks unchanged that differ", lie.blocks)
    };
    let offset = lie.offset;
    format!("the source called {what} from {point}, the first at byte {offset}")
}

/// The first change that was not told, with how many there were.
pub(super) fn lie(looked: &VerifyOutcome) -> Option<Lie> {
    let Mismatch { offset, expected, found, .. } = looked.mismatches.first()?;
    let found = match found {
        Found::Digest(digest) => digest.to_string(),
        // An audit ends where it cannot read, so this is never said of one.
        Found::Unreadable(reason) => reason.clone(),
    };
    let (offset, expected) = (*offset, expected.to_string());
    Some(Lie { offset, blocks: looked.mismatch_count, expected, found })
}
