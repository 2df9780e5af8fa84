//! Owed clean-ups: snapshots of this product that may still be at their source.

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::time::Timestamp;
use hub_ports::{OwedCleanups, OwedOptions, VmaRecord};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, State};
use crate::endpoint::Endpoint;
use crate::page::{UnreadableView, apart};
use crate::state::Hub;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v1/owed-cleanups", || web::get().to(list)),
    Endpoint::delete("/api/v1/owed-cleanups/{copy_name}", || web::delete().to(strike_off)),
];

/// Most that are listed; more of them are an incident of their own.
const MOST: u32 = 1_000;

/// What is owed, the longest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwedList {
    items: Vec<OwedView>,
    /// Records that cannot be read; nobody asks for their snapshots.
    unreadable: Vec<UnreadableView>,
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

/// A clean-up that was struck off.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StruckOff {
    /// What the record said.
    struck_off: OwedView,
    /// What became of the record that the VMA keeps for itself: `struck_off`, `none`, or `unknown` where it could not be
    /// asked and may look for the snapshot again when it is back.
    vma_record: String,
    /// Why that is not known.
    vma_error: Option<String>,
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
        let (all, unreadable) = apart(all);
        let items = all.into_iter().map(|owed| OwedView::of(&hub, owed, now)).collect();
        Ok(OwedList { items, unreadable })
    });
    listed.await.map(web::Json)
}

/// Strikes an owed clean-up off, at the hub and at its VMA: for a VM that was deleted for good, or a snapshot that was
/// removed by hand. The source is not asked and not changed; the hub never looks for this snapshot again.
#[utoipa::path(delete, path = "/api/v1/owed-cleanups/{copy_name}", tag = "health",
    params(("copy_name" = String, Path)), responses((status = 200, body = StruckOff)))]
pub(crate) async fn strike_off(state: State, copy: web::Path<String>) -> Answer<StruckOff> {
    let struck_off = state.carry_out(|hub| async move {
        let cleanups = OwedCleanups {
            store: hub.store.clone(),
            source: hub.source.clone(),
            clock: hub.clock.clone(),
            options: OwedOptions::default(),
        };
        let done = cleanups.strike_off(&copy).await?;
        let (word, vma_error) = match done.vma {
            VmaRecord::StruckOff => ("struck_off", None),
            VmaRecord::None => ("none", None),
            VmaRecord::Unknown(fault) => ("unknown", Some(fault.detail)),
        };
        let struck_off = OwedView::of(&hub, done.owed, hub.clock.now());
        Ok(StruckOff { struck_off, vma_record: word.to_owned(), vma_error })
    });
    struck_off.await.map(web::Json)
}

/// The sums; nothing while the catalogue is away.
pub(crate) async fn sums(state: &State) -> Option<OwedSums> {
    let summed = state.ask(|hub| async move {
        let all = hub.store.view().await?.owed_cleanups(MOST).await?;
        let now = hub.clock.now();
        Ok(OwedSums {
            count: all.len(),
            overdue: all.iter().flatten().filter(|owed| is_overdue(&hub, owed, now)).count(),
            oldest_since: all.iter().flatten().next().map(|owed| owed.since),
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
