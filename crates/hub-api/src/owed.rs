//! Owed clean-ups: snapshots of this product that may still be at their source.

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, State};
use crate::endpoint::Endpoint;
use crate::state::Hub;

pub(crate) const ENDPOINTS: &[Endpoint] =
    &[Endpoint::get("/api/v1/owed-cleanups", || web::get().to(list))];

/// Most that are listed; more of them are an incident of their own.
const MOST: u32 = 1_000;

/// What is owed, the longest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwedList {
    items: Vec<OwedView>,
}

/// A snapshot that may still be at its source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwedCleanup)]
pub(crate) struct OwedView {
    /// What the copy was called; the snapshot carries this name.
    copy_name: String,
    /// `backup` or `replication`.
    job_kind: String,
    /// The backup run or the replication.
    job_id: Uuid,
    vm_context_id: Uuid,
    vm_name: String,
    /// The source's id of the VM.
    vmware_vm_id: String,
    vma_node_id: Uuid,
    /// From just before the copy was ordered.
    owed_since: DateTime<Utc>,
    age_seconds: u64,
    /// Whether it has been owed for longer than the hub was told to keep quiet; a copy at work owes its snapshot, too.
    overdue: bool,
    /// How often it was asked for in vain.
    tries: u32,
    tried_at: Option<DateTime<Utc>>,
    /// Why that was in vain.
    error_code: Option<String>,
    error: Option<String>,
}

/// Sums for the health of the hub.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwedSums {
    /// Snapshots that may still be at their sources, those of copies at work included.
    count: usize,
    /// Of these, owed for longer than the alarm allows.
    overdue: usize,
    /// Since when the oldest is owed.
    oldest_since: Option<DateTime<Utc>>,
}

/// Snapshots of this product that may still be at their sources; the hub asks for their removal by itself.
#[utoipa::path(get, path = "/api/v1/owed-cleanups", tag = "health",
    responses((status = 200, body = OwedList)))]
pub(crate) async fn list(state: State) -> Answer<OwedList> {
    let listed = state.ask(|hub| async move {
        let all = hub.store.view().await?.owed_cleanups(MOST).await?;
        let now = hub.clock.now();
        Ok(OwedList { items: all.into_iter().map(|owed| OwedView::of(&hub, owed, now)).collect() })
    });
    listed.await.map(web::Json)
}

/// The sums; nothing while the catalogue is away.
pub(crate) async fn sums(state: &State) -> Option<OwedSums> {
    let summed = state.ask(|hub| async move {
        let all = hub.store.view().await?.owed_cleanups(MOST).await?;
        let now = hub.clock.now();
        Ok(OwedSums {
            count: all.len(),
            overdue: all.iter().filter(|owed| is_overdue(&hub, owed, now)).count(),
            oldest_since: all.first().map(|owed| owed.since),
        })
    });
    summed.await.ok()
}

impl OwedView {
    fn of(hub: &Hub, owed: OwedCleanup, now: Timestamp) -> Self {
        let overdue = is_overdue(hub, &owed, now);
        let (error_code, error) = match &owed.fault {
            Some(fault) => (Some(fault.code.clone()), Some(fault.detail.clone())),
            None => (None, None),
        };
        Self {
            age_seconds: owed.age(now).as_secs(),
            job_kind: owed.job.word().to_owned(),
            job_id: match owed.job {
                OwedBy::Backup(id) => id.as_uuid(),
                OwedBy::Replication(id) => id.as_uuid(),
            },
            vm_context_id: owed.vm.as_uuid(),
            vma_node_id: owed.vma_node.as_uuid(),
            copy_name: owed.copy,
            vm_name: owed.vm_name,
            vmware_vm_id: owed.vmware_vm_id,
            owed_since: owed.since,
            overdue,
            tries: owed.tries,
            tried_at: owed.tried_at,
            error_code,
            error,
        }
    }
}

fn is_overdue(hub: &Hub, owed: &OwedCleanup, now: Timestamp) -> bool {
    owed.age(now) >= hub.facts.owed_alarm
}
