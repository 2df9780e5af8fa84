//! Reads the limits that VMAs are told, one after the other and numbered: orders overtake each other on their way, and
//! a VMA must not take an older limit for the newer one.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::limits::{ByteRate, CopyRates, RateReading};
use tokio::sync::Mutex;

use crate::{Store, StoreError};

/// How long one reading may keep the next one waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Numbers the readings of one start of the hub; cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct RateReadings {
    last: Arc<Mutex<RateReading>>,
}

impl RateReadings {
    /// Readings of a start of the hub; `epoch` differs from that of every other start.
    pub fn new(epoch: u64) -> Self {
        // Larger numbers are not exact in every reader of JSON.
        let epoch = epoch & ((1 << 53) - 1);
        Self { last: Arc::new(Mutex::new(RateReading { epoch, number: 0 })) }
    }

    /// What a copy is told: the job's own limit, and the VMA's as the catalogue has it now.
    ///
    /// Readings come one after the other. While the catalogue is away, `node` is what is known, and such a reading is
    /// older than whatever the VMA has been told since this start. Dropping it leaves a number unused.
    pub async fn rates(
        &self,
        store: &dyn Store,
        node: &VmaNode,
        job: Option<ByteRate>,
    ) -> CopyRates {
        let asked = async {
            let stored: Result<_, StoreError> =
                async { store.view().await?.vma_node(node.id).await }.await;
            stored.ok().flatten().map(|node| node.limits.rate)
        };
        let (vma, read) = self.read(node.limits.rate, asked).await;
        CopyRates { job, vma, read }
    }

    async fn read(
        &self,
        known: Option<ByteRate>,
        reading: impl Future<Output = Option<Option<ByteRate>>>,
    ) -> (Option<ByteRate>, RateReading) {
        let mut last = self.last.lock().await;
        last.number += 1;
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Some(rate)) => (rate, *last),
            Ok(None) | Err(_) => (known, RateReading { number: 0, ..*last }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64) -> Option<ByteRate> {
        ByteRate::new(bytes).ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_has_a_number_by_when_it_was_made_and_not_by_when_it_was_asked_for() {
        let readings = RateReadings::new(u64::MAX);
        let slow = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some(rate(70_000))
        };
        let (first, second) =
            tokio::join!(readings.read(None, slow), readings.read(None, async { Some(None) }));
        assert_eq!((first.0, first.1.number), (rate(70_000), 1));
        assert_eq!((second.0, second.1.number), (None, 2));
        assert_eq!(first.1.epoch, (1 << 53) - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_catalogue_that_is_away_says_nothing_new() {
        let readings = RateReadings::new(1);
        for reading in [None, Some(())] {
            let reading = async move {
                if reading.is_some() {
                    std::future::pending::<()>().await;
                }
                None
            };
            let (told, read) = readings.read(rate(70_000), reading).await;
            assert_eq!((told, read), (rate(70_000), RateReading { epoch: 1, number: 0 }));
        }
        assert_eq!(readings.read(None, async { Some(None) }).await.1.number, 3);
    }
}
