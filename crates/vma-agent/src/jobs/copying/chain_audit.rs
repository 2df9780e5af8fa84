//! The audit of a whole chain by a copy that reads the whole disk anyway: what the source does not name as changed since
//! the chain's latest point must be what that point holds.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use hub_data_mover::{AuditSample, DigestTable, audit_read};
use hub_vma_api::{AuditReport, CopyMethod};

use super::{DiskCopy, audit};
use crate::source::{Caught, Changed};

/// What a chain's audit compares with, once everything was read.
pub(super) struct ChainCheck {
    change_id: String,
    areas: Vec<Range<u64>>,
    point: Arc<DigestTable>,
    from: u64,
}

impl DiskCopy {
    /// Gathers what the audit of a chain needs, where it is asked for, or says why there is none: the copy is right
    /// without it, so nothing here lets it fail.
    ///
    /// Called before the disk counts as begun, because nothing moves meanwhile.
    pub(super) async fn chain_to_audit(&self) -> Option<Result<ChainCheck, String>> {
        let order = self.disk.chain_audit.as_ref()?;
        if matches!(self.disk.method, CopyMethod::ChangedSince { .. }) {
            return None;
        }
        let gathered = async {
            if order.point.capacity_bytes != self.disk.capacity_bytes {
                return Err("the disk has grown since".to_owned());
            }
            let areas = match self.snapshot.changed_since(self.index, &order.change_id).await {
                Changed::Areas(areas) => areas,
                Changed::Unknown(reason) => {
                    self.tell_again(&order.change_id, order.from);
                    return Err(reason);
                }
            };
            let point = self.parent_table(&order.point).await.map_err(|fault| fault.detail)?;
            Ok(ChainCheck { change_id: order.change_id.clone(), areas, point, from: order.from })
        };
        Some(gathered.await.map_err(|why| not_audited(&why)))
    }

    /// Compares what a copy has read with the chain's latest point, and reports what was found before the disk ends.
    pub(super) async fn audit_chain(&self, check: ChainCheck, read: Arc<DigestTable>) {
        let ChainCheck { change_id, areas, point, from } = check;
        let compared = tokio::task::spawn_blocking(move || {
            let (capacity, size) = (point.capacity(), point.block_size());
            let sample = AuditSample::plan(capacity, size, &areas, NonZeroU32::MIN, from);
            audit_read(&read, &point, &sample).map(|looked| (looked, sample))
        });
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(error = %error, "the chain before could not be audited");
            self.job.disk_remarked(self.index, not_audited("the digests could not be compared"));
        };
        let (looked, sample) = match compared.await {
            Ok(Ok(compared)) => compared,
            Ok(Err(error)) => return failed(&error),
            Err(error) => return failed(&error),
        };
        let lie = audit::lie(&looked);
        if let Some(lie) = &lie {
            tracing::warn!(
                offset = lie.offset,
                blocks = lie.blocks,
                expected = lie.expected,
                found = lie.found,
                "the source called blocks unchanged that have changed; the chain before is in doubt"
            );
            let called = audit::called_unchanged(lie, "the latest backup");
            let caught = Caught { why: called, change_id, lie: lie.clone() };
            self.snapshot.distrust(self.index, &caught).await;
            self.job.disk_remarked(self.index, caught.why);
        }
        let (blocks, bytes, next) = (sample.blocks(), sample.bytes(), sample.next());
        self.job.disk_audited(self.index, AuditReport { blocks, bytes, next, lie });
    }
}

fn not_audited(why: &str) -> String {
    format!("what the source told until the latest backup was not audited as a whole: {why}")
}

/// Two reasons in one sentence.
pub(in crate::jobs) fn both(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    }
}
