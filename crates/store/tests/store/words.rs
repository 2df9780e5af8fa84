//! The words that the schema allows are the domain's words (trap D29).

use hub_domain::backup::BackupType;
use hub_domain::compression::Compression;
use hub_domain::disk::Presence;
use hub_domain::ids::{BackupRunId, ReplicationJobId};
use hub_domain::job::JobStatus;
use hub_domain::owed::OwedBy;
use hub_domain::replication::{ReplicaFormat, ReplicationKind};
use hub_domain::repository::RepositoryKind;
use hub_domain::restore::{RestoreFormat, VerificationScope};
use hub_domain::vm::ContextStatus;
use hub_migration::words;

#[test]
fn trap_d29_the_schema_allows_exactly_the_words_of_the_domain() {
    assert_eq!(ContextStatus::ALL.map(ContextStatus::word), words::CONTEXT_STATUS);
    assert_eq!(JobStatus::ALL.map(JobStatus::word), words::JOB_STATUS);
    let presence = [Presence::Present, Presence::Retired].map(Presence::word);
    assert_eq!(presence, words::PRESENCE);
    let backup = [BackupType::Full, BackupType::Incremental].map(BackupType::word);
    assert_eq!(backup, words::BACKUP_TYPE);
    let replication =
        [ReplicationKind::Initial, ReplicationKind::Incremental].map(ReplicationKind::word);
    assert_eq!(replication, words::REPLICATION_TYPE);
    let replica = [ReplicaFormat::Raw, ReplicaFormat::Qcow2].map(ReplicaFormat::word);
    assert_eq!(replica, words::REPLICA_FORMAT);
    assert_eq!([RepositoryKind::Local.word()], words::REPOSITORY_KIND);
    assert_eq!(Compression::WORDS, words::COMPRESSION);
    let restore = [RestoreFormat::Raw, RestoreFormat::Qcow2, RestoreFormat::Vmdk];
    assert_eq!(restore.map(RestoreFormat::word), words::RESTORE_FORMAT);
    let scope = [VerificationScope::Point, VerificationScope::Chain].map(VerificationScope::word);
    assert_eq!(scope, words::VERIFICATION_SCOPE);
    let nil = "00000000-0000-0000-0000-000000000000";
    let (run, job): (BackupRunId, ReplicationJobId) = (nil.parse().unwrap(), nil.parse().unwrap());
    let owed_by = [OwedBy::Backup(run), OwedBy::Replication(job)];
    assert_eq!(owed_by.map(OwedBy::word), words::OWED_BY);
}
