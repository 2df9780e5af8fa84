//! The steps of the schema's history, oldest first.

mod m20250901_090000_create_first_tables;
mod m20251006_200000_make_vm_disks_job_id_nullable;
mod m20251006_210000_add_backup_jobs_disk_id;
mod m20251020_090000_add_disk_ordinals_and_presence;
mod m20251027_090000_create_backup_chains;
mod m20251103_090000_add_backup_proofs;
mod m20251110_090000_create_replication_job_disks;
mod m20251117_090000_create_restores_and_tokens;
mod m20251123_090000_add_copy_attempts;
mod m20251124_090000_add_copy_limits;
mod m20251125_090000_add_vm_identity;
mod m20251125_100000_add_disk_identity;
mod m20251125_110000_create_owed_cleanups;
mod m20251125_120000_add_source_facts;
mod m20251126_090000_add_change_audits;
mod m20251127_090000_add_quiescence;
mod m20251127_110000_add_remarks;
mod m20251127_111000_index_suspicions;
mod step;

pub(crate) use step::{Step, TABLES, all};
