//! Copies a run again when a machine or a connection was lost on the way, and says so in its jobs.

use hub_domain::attempt::Attempt;
use hub_domain::ids::BackupRunId;
use hub_domain::job::JobStatus;
use hub_ports::StoreError;
use tokio_util::sync::CancellationToken;

use crate::Backup;
use crate::ending::Ending;
use crate::preparation::DiskWork;
use crate::run::Scene;

/// What a copy is called at the VMA: every attempt has a name of its own, since each is another order.
pub(crate) fn copy_name(run: BackupRunId, attempt: u32) -> String {
    if attempt <= 1 { run.to_string() } else { format!("{run}.{attempt}") }
}

impl Backup {
    /// Prepares and copies all disks of a run; after a loss all that are not complete are copied again, together, so
    /// that they are of one instant (trap D6).
    pub(crate) async fn copy_through_losses(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        loop {
            let ending = self.prepare_and_copy(scene, disks, cancel).await?;
            let Ending::Lost { fault, reason } = ending else { return Ok(ending) };
            let attempt = newest_attempt(disks);
            tracing::warn!(
                run.id = %scene.run.id, attempt, code = %fault.code, detail = %fault.detail,
                "a copy was lost and is ordered again"
            );
            if !self.patiently(|| self.begin_again(disks, reason)).await? {
                return Ok(Ending::Stopped);
            }
            for disk in disks.iter_mut().filter(|disk| !disk.settled) {
                disk.again(reason);
            }
            let pause = tokio::time::sleep(self.options.attempt_pause * attempt);
            if cancel.run_until_cancelled(pause).await.is_none() {
                return Ok(Ending::Stopped);
            }
        }
    }

    /// Writes the next attempt down for all disks that are not complete; false when one of them is not at work any more.
    async fn begin_again(&self, disks: &[DiskWork], reason: &str) -> Result<bool, StoreError> {
        let mut work = self.store.begin().await?;
        for disk in disks.iter().filter(|disk| !disk.settled) {
            let Some(mut job) = work.backup(disk.job.id).await? else { return Ok(false) };
            if job.state.status() != JobStatus::Running {
                return Ok(false);
            }
            job.attempt = disk.job.attempt.next(reason);
            job.bytes = job.bytes.max(disk.job.bytes);
            work.update_backup(&mut job).await?;
        }
        work.commit().await?;
        Ok(true)
    }
}

impl DiskWork {
    /// Makes it ready for the next attempt.
    fn again(&mut self, reason: &str) {
        self.job.attempt = self.job.attempt.next(reason);
        self.earlier = self.job.bytes;
        self.order.resume = true;
        self.target = None;
        self.copied = None;
        self.lost = None;
    }

    /// Notes how much of an earlier attempt is kept.
    pub(crate) fn keeps(&mut self, bytes: u64) {
        let kept = format!("{} that had arrived were compared", amount(bytes));
        self.job.attempt = reworded(&self.job.attempt, &kept);
        self.kept = true;
    }

    /// Notes how much travelled since.
    pub(crate) fn sent_after_that(&mut self) {
        if self.kept {
            let sent = self.job.bytes.sent.saturating_sub(self.earlier.sent);
            let sent = format!("{} were sent after that", amount(sent));
            self.job.attempt = reworded(&self.job.attempt, &sent);
        }
    }
}

/// The attempt that disks which are not complete are at.
pub(crate) fn newest_attempt(disks: &[DiskWork]) -> u32 {
    let open = disks.iter().filter(|disk| !disk.settled);
    open.map(|disk| disk.job.attempt.number).max().unwrap_or(1)
}

fn reworded(attempt: &Attempt, more: &str) -> Attempt {
    let reason = attempt.reason.as_deref().unwrap_or("it was ordered again");
    Attempt { number: attempt.number, reason: Some(format!("{reason}; {more}")) }
}

/// Bytes for people.
fn amount(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1 << 30 { (1_u64 << 30, "GiB") } else { (1 << 20, "MiB") };
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn amounts_read_well() {
        assert_eq!(amount(0), "0.0 MiB");
        assert_eq!(amount(65_536 * 40), "2.5 MiB");
        assert_eq!(amount((3 << 30) + (1 << 28)), "3.2 GiB");
    }
}
