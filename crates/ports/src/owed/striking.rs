//! Striking a clean-up off because somebody says so: for a VM that was deleted for good, which nobody can prove.

use hub_domain::fault::Fault;
use hub_domain::owed::OwedCleanup;

use super::OwedCleanups;
use crate::{Classify, ErrorClass, SourceError, StoreError, retry_conflicts};

/// A record that was struck off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StruckOff {
    /// What it said.
    pub owed: OwedCleanup,
    /// What became of the record that the VMA keeps for itself.
    pub vma: VmaRecord,
}

/// The VMA's own record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmaRecord {
    /// It was struck off, too.
    StruckOff,
    /// It had none.
    None,
    /// It could not be asked, and why: it may look for the snapshot again when it is back.
    Unknown(Fault),
}

/// Why a record stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StrikeOffError {
    /// There is none of this name.
    #[error("nothing is owed by a copy `{0}`; it may have been cleaned up meanwhile")]
    NotFound(String),
    /// The copy may still need its snapshot.
    #[error("copy `{0}` is at work and needs its snapshot; cancel its job first")]
    AtWork(String),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for StrikeOffError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::AtWork(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "owed/not-found",
            Self::AtWork(_) => "owed/at-work",
            Self::Store(error) => error.code(),
        }
    }
}

impl OwedCleanups {
    /// Forgets what a copy that is over owes, here and at the VMA that was ordered to make it, and says so in the log.
    ///
    /// Nothing is asked of the source or changed there. A VMA that cannot be reached keeps its own record.
    pub async fn strike_off(&self, copy: &str) -> Result<StruckOff, StrikeOffError> {
        let named = || copy.chars().take(80).collect::<String>();
        let owed = self.store.view().await?.owed_cleanup(copy).await?;
        let owed = owed.ok_or_else(|| StrikeOffError::NotFound(named()))?;
        if self.is_at_work(owed.job).await? {
            return Err(StrikeOffError::AtWork(named()));
        }
        let vma = self.strike_off_at_vma(&owed).await?;
        let is_in_use = |fault: &Fault| fault.code == "source/snapshot-in-use";
        if matches!(&vma, VmaRecord::Unknown(fault) if is_in_use(fault)) {
            return Err(StrikeOffError::AtWork(named()));
        }
        let struck_off = retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let struck_off = work.strike_off(&owed).await?;
            work.commit().await?;
            Ok::<_, StoreError>(struck_off)
        });
        if !struck_off.await? && self.store.view().await?.owed_cleanup(copy).await?.is_some() {
            // It was ordered again meanwhile.
            return Err(StrikeOffError::AtWork(named()));
        }
        let fault = owed.fault.as_ref();
        tracing::info!(
            vm.name = %owed.vm_name, vm.id = %owed.vmware_vm_id, snapshot = %owed.copy, source = %owed.source,
            age_seconds = owed.age(self.clock.now()).as_secs(), tries = owed.tries,
            code = fault.map(|fault| fault.code.as_str()), vma = ?vma,
            "an owed clean-up was struck off by request; what is at its source was not touched"
        );
        Ok(StruckOff { owed, vma })
    }

    /// At the VMA that was ordered, whatever it reads by now: its record is about what it read then.
    async fn strike_off_at_vma(&self, owed: &OwedCleanup) -> Result<VmaRecord, StoreError> {
        let Some(node) = self.store.view().await?.vma_node(owed.vma_node).await? else {
            let detail = "the VMA that took the snapshot is not registered any more";
            return Ok(VmaRecord::Unknown(Fault::new("vma/not-found", detail)));
        };
        Ok(match self.source.strike_off(&node, &owed.copy).await {
            Ok(true) => VmaRecord::StruckOff,
            Ok(false) => VmaRecord::None,
            Err(error) => VmaRecord::Unknown(SourceError::to_fault(&error)),
        })
    }
}
