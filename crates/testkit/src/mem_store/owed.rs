//! Owed clean-ups in memory.

use async_trait::async_trait;
use hub_domain::owed::OwedCleanup;
use hub_ports::StoreError;
use hub_ports::store::{OwedReads, OwedWrites, Row};

use super::Session;

#[async_trait]
impl OwedReads for Session {
    async fn owed_cleanups(&mut self, limit: u32) -> Result<Vec<Row<OwedCleanup>>, StoreError> {
        let mut all: Vec<OwedCleanup> = self.rows().owed.values().cloned().collect();
        all.sort_by(|one, other| (one.since, &one.copy).cmp(&(other.since, &other.copy)));
        all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(self.listed(all))
    }

    async fn owed_cleanup(&mut self, copy: &str) -> Result<Option<OwedCleanup>, StoreError> {
        let found = self.rows().owed.get(copy).cloned();
        self.one(found)
    }
}

#[async_trait]
impl OwedWrites for Session {
    async fn owe(&mut self, owed: &OwedCleanup) -> Result<(), StoreError> {
        let owed = owed.clone();
        self.write(move |rows| {
            let new = match rows.owed.get(&owed.copy) {
                None => owed.clone(),
                Some(known) => OwedCleanup {
                    vma_node: owed.vma_node,
                    credential: owed.credential,
                    ordered_at: owed.ordered_at,
                    ..known.clone()
                },
            };
            rows.owed.insert(owed.copy.clone(), new);
            Ok(())
        })
    }

    async fn note_try(&mut self, owed: &OwedCleanup) -> Result<(), StoreError> {
        let owed = owed.clone();
        self.write(move |rows| {
            if let Some(known) = rows.owed.get_mut(&owed.copy) {
                known.tries = owed.tries;
                known.tried_at = owed.tried_at;
                known.fault.clone_from(&owed.fault);
            }
            Ok(())
        })
    }

    async fn strike_off(&mut self, owed: &OwedCleanup) -> Result<bool, StoreError> {
        let owed = owed.clone();
        let is_this = move |known: &&OwedCleanup| {
            known.copy == owed.copy && known.ordered_at == owed.ordered_at
        };
        let found = self.rows().owed.values().any(|known| is_this(&known));
        self.write(move |rows| {
            rows.owed.retain(|_, known| !is_this(&&*known));
            Ok(())
        })?;
        Ok(found)
    }
}
