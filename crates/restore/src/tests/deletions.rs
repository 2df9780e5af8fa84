//! A deletion that meets the start of a restore or a verification, also when the VM is gone and nothing is locked.

use hub_testkit::Whole as _;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anyhow::Result;
use hub_domain::restore::{RestoreFormat, VerificationScope};
use hub_domain::time::Timestamp;
use hub_ports::{Classify, IdGen, Store, StoreError};
use hub_testkit::{MemStore, SeqIds};
use uuid::Uuid;

use super::{Fixture, point_id};
use crate::{Restore, RestoreRequest};

/// Begins the deletion of a point as the backup engine does, in the middle of another unit of work.
struct Deleter {
    ids: SeqIds,
    store: Mutex<Option<Arc<MemStore>>>,
}

impl IdGen for Deleter {
    fn new_id(&self) -> Uuid {
        let store = self.store.lock().ok().and_then(|mut store| store.take());
        if let Some(store) = store {
            let deletion = std::pin::pin!(begin_deletion(&store));
            let done = deletion.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(done, Poll::Ready(Ok(()))), "{done:?}");
        }
        self.ids.new_id()
    }
}

async fn begin_deletion(store: &MemStore) -> Result<(), StoreError> {
    let mut work = store.begin().await?;
    let job = work.backup(point_id(2)).await?;
    let mut job = job.ok_or(StoreError::Missing("the point"))?;
    job.deleting_since = Some(Timestamp::UNIX_EPOCH);
    work.update_backup(&mut job).await?;
    work.commit().await
}

fn meddled(fixture: &Fixture) -> Restore {
    let store = Mutex::new(Some(fixture.store.clone()));
    let ids = Arc::new(Deleter { ids: SeqIds::default(), store });
    Restore { ids, ..fixture.engine.clone() }
}

fn request() -> RestoreRequest {
    RestoreRequest { point: point_id(2), format: RestoreFormat::Raw, file_name: None }
}

#[tokio::test(start_paused = true)]
async fn promise_p10_nothing_starts_on_a_point_whose_deletion_begins_meanwhile() -> Result<()> {
    let fixture = Fixture::new().await?;
    let refused = meddled(&fixture).start_restore(&request()).await;
    assert_eq!(refused.map_err(|error| error.code()).err(), Some("backup/not-completed"));
    let fixture = Fixture::new().await?;
    let scope = VerificationScope::Chain;
    let refused = meddled(&fixture).start_verification(point_id(2), scope).await;
    assert_eq!(refused.map_err(|error| error.code()).err(), Some("backup/not-completed"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn promise_p10_a_deletion_notices_what_starts_on_its_point_meanwhile() -> Result<()> {
    for restores in [true, false] {
        let fixture = Fixture::new().await?;
        let mut deletion = fixture.store.begin().await?;
        let mut job = deletion.backup(point_id(2)).await?.ok_or(StoreError::Missing("it"))?;
        assert!(deletion.unfinished_restores().await?.whole()?.is_empty());
        assert!(deletion.unfinished_verifications().await?.whole()?.is_empty());
        job.deleting_since = Some(Timestamp::UNIX_EPOCH);
        deletion.update_backup(&mut job).await?;
        if restores {
            fixture.engine.start_restore(&request()).await?;
        } else {
            fixture.engine.start_verification(point_id(2), VerificationScope::Point).await?;
        }
        assert!(matches!(deletion.commit().await, Err(StoreError::Conflict)), "{restores}");
    }
    Ok(())
}
