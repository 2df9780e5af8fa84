//! Backup runs, backup jobs and chains in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::ids::{BackupJobId, BackupRunId, VmContextId};
use hub_domain::job::JobStatus;
use hub_domain::remarks::Remarks;
use hub_ports::StoreError;
use hub_ports::store::{BackupFilter, BackupReads, BackupStats, BackupWrites, Row, Suspicions};

use super::vms::count;
use super::{Session, page};

#[async_trait]
impl BackupReads for Session {
    async fn backup_run(&mut self, id: BackupRunId) -> Result<Option<BackupRun>, StoreError> {
        let found = self.rows().runs.get(&id).cloned();
        self.one(found)
    }

    async fn backups_of_run(
        &mut self,
        run: BackupRunId,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let mut jobs: Vec<BackupJob> =
            self.rows().backups.values().filter(|job| job.run == run).cloned().collect();
        jobs.sort_by_key(|job| job.ordinal);
        Ok(self.listed(jobs))
    }

    async fn backup(&mut self, id: BackupJobId) -> Result<Option<BackupJob>, StoreError> {
        let found = self.rows().backups.get(&id).cloned();
        self.one(found)
    }

    async fn backups_page(
        &mut self,
        filter: &BackupFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let fits = |job: &BackupJob| {
            filter.vm.is_none_or(|vm| job.vm == vm)
                && filter.ordinal.is_none_or(|ordinal| job.ordinal == ordinal)
                && filter.repository.is_none_or(|repository| job.repository == repository)
                && filter.status.is_none_or(|status| job.state.status() == status)
                && filter.run.is_none_or(|run| job.run == run)
        };
        let found = page(&self.rows().backups, after, limit, fits);
        Ok(self.listed(found))
    }

    async fn backups_of_chain(&mut self, key: ChainKey) -> Result<Vec<BackupJob>, StoreError> {
        let of_chain = |job: &&BackupJob| {
            job.vm == key.vm && job.ordinal == key.ordinal && job.repository == key.repository
        };
        let found = self.rows().backups.values().filter(of_chain).cloned().collect();
        self.whole(found)
    }

    async fn unfinished_backups(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let unfinished = |job: &&BackupJob| {
            !job.state.status().is_terminal() && vm.is_none_or(|vm| job.vm == vm)
        };
        let found = self.rows().backups.values().filter(unfinished).cloned().collect();
        Ok(self.listed(found))
    }

    async fn deleting_backups(&mut self) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let deleting = |job: &&BackupJob| job.deleting_since.is_some();
        let found = self.rows().backups.values().filter(deleting).cloned().collect();
        Ok(self.listed(found))
    }

    async fn chain(&mut self, key: ChainKey) -> Result<Option<BackupChain>, StoreError> {
        Ok(self.rows().chains.get(&key).cloned())
    }

    async fn chains_of_vm(&mut self, vm: VmContextId) -> Result<Vec<Row<BackupChain>>, StoreError> {
        let of_vm = |chain: &&BackupChain| chain.key.vm == vm;
        let found = self.rows().chains.values().filter(of_vm).cloned().collect();
        Ok(self.listed(found))
    }

    async fn backed_up_vms_named(&mut self, name: &str) -> Result<Vec<VmContextId>, StoreError> {
        let vms: BTreeSet<VmContextId> = self
            .rows()
            .backups
            .values()
            .filter(|job| job.vm_name == name)
            .map(|job| job.vm)
            .collect();
        Ok(vms.into_iter().collect())
    }

    async fn backup_stats(&mut self) -> Result<BackupStats, StoreError> {
        let rows = self.rows();
        let (jobs, chains) = (&rows.backups, &rows.chains);
        let with = |fits: &dyn Fn(&BackupJob) -> bool| {
            count(jobs.values().filter(|job| fits(job)).count())
        };
        Ok(BackupStats {
            jobs: count(jobs.len()),
            points: with(&BackupJob::is_restore_point),
            failed: with(&|job| {
                matches!(job.state.status(), JobStatus::Failed | JobStatus::Interrupted)
            }),
            active: with(&|job| !job.state.status().is_terminal()),
            stored_bytes: jobs
                .values()
                .filter(|job| job.is_restore_point())
                .map(|job| job.stored_bytes)
                .sum(),
            suspect: with(&|job| job.is_restore_point() && job.is_suspect()),
            suspect_chains: with(&|job| {
                job.suspicion.is_some() && chains.values().any(|chain| chain.latest == job.id)
            }),
        })
    }

    async fn suspicions(&mut self) -> Result<Suspicions, StoreError> {
        let stats = self.backup_stats().await?;
        Ok(Suspicions { points: stats.suspect, chains: stats.suspect_chains })
    }
}

#[async_trait]
impl BackupWrites for Session {
    async fn insert_backup_run(
        &mut self,
        run: &BackupRun,
        jobs: &[BackupJob],
    ) -> Result<(), StoreError> {
        let (run, jobs) = (run.clone(), jobs.to_vec());
        self.write(move |rows| {
            if !rows.repositories.contains_key(&run.repository) {
                return Err(StoreError::Missing("the repository"));
            }
            if rows.runs.insert(run.id, run.clone()).is_some() {
                return Err(StoreError::Conflict);
            }
            for job in &jobs {
                if job.parent.is_some_and(|parent| !rows.backups.contains_key(&parent)) {
                    return Err(StoreError::Missing("the parent"));
                }
                if rows.backups.insert(job.id, job.clone()).is_some() {
                    return Err(StoreError::Conflict);
                }
            }
            Ok(())
        })
    }

    async fn remark(&mut self, id: BackupRunId, made: &Remarks) -> Result<(), StoreError> {
        let made = made.clone();
        self.write(move |rows| {
            if let Some(run) = rows.runs.get_mut(&id) {
                run.remarks = made.clone();
            }
            Ok(())
        })
    }

    async fn update_backup(&mut self, job: &mut BackupJob) -> Result<(), StoreError> {
        let next = BackupJob { version: job.version + 1, ..job.clone() };
        self.write(move |rows| {
            if next.parent.is_some_and(|parent| !rows.backups.contains_key(&parent)) {
                return Err(StoreError::Missing("the parent"));
            }
            let stored = rows.backups.get_mut(&next.id).ok_or(StoreError::Conflict)?;
            if stored.version + 1 != next.version {
                return Err(StoreError::Conflict);
            }
            // Only the deletion of the disk row changes this reference.
            *stored = BackupJob { disk: stored.disk, ..next.clone() };
            Ok(())
        })?;
        job.version += 1;
        Ok(())
    }

    async fn delete_backup(&mut self, id: BackupJobId) -> Result<(), StoreError> {
        self.write(move |rows| {
            if rows.backups.values().any(|job| job.parent == Some(id)) {
                return Err(StoreError::Refused("another backup stands on this one"));
            }
            if rows.chains.values().any(|chain| chain.full == id || chain.latest == id) {
                return Err(StoreError::Refused("a chain names this backup"));
            }
            let job = rows.backups.remove(&id).ok_or(StoreError::Missing("the backup"))?;
            if !rows.backups.values().any(|other| other.run == job.run) {
                rows.runs.remove(&job.run);
            }
            Ok(())
        })
    }

    async fn put_chain(&mut self, chain: &BackupChain) -> Result<(), StoreError> {
        let chain = chain.clone();
        self.write(move |rows| {
            let known = |id| rows.backups.contains_key(&id);
            if !known(chain.full) || !known(chain.latest) {
                return Err(StoreError::Missing("the restore point"));
            }
            rows.chains.insert(chain.key, chain.clone());
            Ok(())
        })
    }

    async fn remove_chain(&mut self, key: ChainKey) -> Result<(), StoreError> {
        self.write(move |rows| {
            rows.chains.remove(&key);
            Ok(())
        })
    }
}
