//! Replication, restore and verification jobs in memory.

use async_trait::async_trait;
use hub_domain::ids::{ReplicationJobId, RestoreJobId, VerificationId, VmContextId};
use hub_domain::replication::ReplicationJob;
use hub_domain::restore::{RestoreJob, Verification};
use hub_ports::StoreError;
use hub_ports::store::{ReplicationReads, ReplicationWrites, RestoreReads, RestoreWrites, Row};

use super::{Session, page};

#[async_trait]
impl ReplicationReads for Session {
    async fn replication(
        &mut self,
        id: ReplicationJobId,
    ) -> Result<Option<ReplicationJob>, StoreError> {
        let found = self.rows().replications.get(&id).cloned();
        self.one(found)
    }

    async fn replications_page(
        &mut self,
        vm: Option<VmContextId>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError> {
        let of_vm = |job: &ReplicationJob| vm.is_none_or(|vm| job.vm == vm);
        let found = page(&self.rows().replications, after, limit, of_vm);
        Ok(self.listed(found))
    }

    async fn unfinished_replications(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError> {
        let unfinished = |job: &&ReplicationJob| {
            !job.state.status().is_terminal() && vm.is_none_or(|vm| job.vm == vm)
        };
        let found = self.rows().replications.values().filter(unfinished).cloned().collect();
        Ok(self.listed(found))
    }
}

#[async_trait]
impl ReplicationWrites for Session {
    async fn insert_replication(&mut self, job: &ReplicationJob) -> Result<(), StoreError> {
        let mut job = job.clone();
        job.disks.sort_by_key(|disk| disk.ordinal);
        self.write(move |rows| {
            if !rows.vms.contains_key(&job.vm) {
                return Err(StoreError::Missing("the VM"));
            }
            if rows.replications.insert(job.id, job.clone()).is_some() {
                return Err(StoreError::Conflict);
            }
            Ok(())
        })
    }

    async fn update_replication(&mut self, job: &mut ReplicationJob) -> Result<(), StoreError> {
        let next = ReplicationJob { version: job.version + 1, ..job.clone() };
        self.write(move |rows| {
            let stored = rows.replications.get_mut(&next.id).ok_or(StoreError::Conflict)?;
            if stored.version + 1 != next.version {
                return Err(StoreError::Conflict);
            }
            *stored = next.clone();
            Ok(())
        })?;
        job.version += 1;
        Ok(())
    }

    async fn delete_replication(&mut self, id: ReplicationJobId) -> Result<(), StoreError> {
        self.write(move |rows| {
            rows.replications.remove(&id).ok_or(StoreError::Missing("the replication"))?;
            for disk in rows.disks.values_mut().filter(|disk| disk.job == Some(id)) {
                disk.job = None;
            }
            Ok(())
        })
    }
}

#[async_trait]
impl RestoreReads for Session {
    async fn restore(&mut self, id: RestoreJobId) -> Result<Option<RestoreJob>, StoreError> {
        let found = self.rows().restores.get(&id).cloned();
        self.one(found)
    }

    async fn restores_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<RestoreJob>>, StoreError> {
        let found = page(&self.rows().restores, after, limit, |_| true);
        Ok(self.listed(found))
    }

    async fn unfinished_restores(&mut self) -> Result<Vec<Row<RestoreJob>>, StoreError> {
        let unfinished = |job: &&RestoreJob| !job.state.status().is_terminal();
        let found = self.rows().restores.values().filter(unfinished).cloned().collect();
        Ok(self.listed(found))
    }

    async fn verification(
        &mut self,
        id: VerificationId,
    ) -> Result<Option<Verification>, StoreError> {
        let found = self.rows().verifications.get(&id).cloned();
        self.one(found)
    }

    async fn verifications_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<Verification>>, StoreError> {
        let found = page(&self.rows().verifications, after, limit, |_| true);
        Ok(self.listed(found))
    }

    async fn unfinished_verifications(&mut self) -> Result<Vec<Row<Verification>>, StoreError> {
        let unfinished = |job: &&Verification| !job.state.status().is_terminal();
        let found = self.rows().verifications.values().filter(unfinished).cloned().collect();
        Ok(self.listed(found))
    }
}

#[async_trait]
impl RestoreWrites for Session {
    async fn insert_restore(&mut self, job: &RestoreJob) -> Result<(), StoreError> {
        let job = job.clone();
        self.write(move |rows| match rows.restores.insert(job.id, job.clone()) {
            Some(_) => Err(StoreError::Conflict),
            None => Ok(()),
        })
    }

    async fn update_restore(&mut self, job: &mut RestoreJob) -> Result<(), StoreError> {
        let next = RestoreJob { version: job.version + 1, ..job.clone() };
        self.write(move |rows| {
            let stored = rows.restores.get_mut(&next.id).ok_or(StoreError::Conflict)?;
            if stored.version + 1 != next.version {
                return Err(StoreError::Conflict);
            }
            *stored = next.clone();
            Ok(())
        })?;
        job.version += 1;
        Ok(())
    }

    async fn insert_verification(&mut self, job: &Verification) -> Result<(), StoreError> {
        let job = job.clone();
        self.write(move |rows| match rows.verifications.insert(job.id, job.clone()) {
            Some(_) => Err(StoreError::Conflict),
            None => Ok(()),
        })
    }

    async fn update_verification(&mut self, job: &mut Verification) -> Result<(), StoreError> {
        let next = Verification { version: job.version + 1, ..job.clone() };
        self.write(move |rows| {
            let stored = rows.verifications.get_mut(&next.id).ok_or(StoreError::Conflict)?;
            if stored.version + 1 != next.version {
                return Err(StoreError::Conflict);
            }
            *stored = next.clone();
            Ok(())
        })?;
        job.version += 1;
        Ok(())
    }
}
