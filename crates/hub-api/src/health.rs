//! Whether the hub lives, and what it is.

use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{State, bytes};
use crate::endpoint::Endpoint;
use crate::owed::{self, OwedSums};

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/health", || web::get().to(live)).open(),
    Endpoint::get("/api/v1/health", || web::get().to(live)).open(),
    Endpoint::get("/api/v1/debug/health", || web::get().to(inspect)),
];

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// Version of the hub.
    version: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DebugHealth {
    /// `ok`, or `degraded` while the database does not answer.
    status: &'static str,
    /// What somebody should look at; null while the database does not answer.
    alarms: Option<Alarms>,
    system_info: SystemInfo,
}

/// What somebody should look at; all is well while everything is 0.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alarms {
    /// Chains whose source was caught leaving out changes, until the next backup has begun a new one.
    suspect_chains: i64,
    /// Restore points of such chains that may lack changes, as long as they are kept.
    suspect_points: i64,
    /// Rows of the catalogue that could not be read when a list came to them, and have not been read since; the lists and
    /// the log name them. Counted since the start of the hub.
    unreadable_rows: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SystemInfo {
    /// Version of the hub.
    version: String,
    /// From which sources it was built.
    build: String,
    /// Since its start.
    uptime_seconds: u64,
    database: DatabaseInfo,
    /// Calls of this API, counted in its route table.
    api_endpoints: usize,
    /// Snapshots of this product that may still be at their sources; null while the database does not answer.
    owed_cleanups: Option<OwedSums>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseInfo {
    /// `sqlite`, `mysql` or `postgres`.
    kind: String,
    /// `ok`, or `unavailable`.
    status: &'static str,
}

/// Whether the hub lives; asks nothing of the database and needs no token.
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    responses((status = 200, body = Health)))]
pub(crate) async fn live(state: State) -> web::Json<Health> {
    web::Json(Health { status: "ok", version: state.hub().facts.version.clone() })
}

/// What this hub is, and whether its database answers.
#[utoipa::path(get, path = "/api/v1/debug/health", tag = "health",
    responses((status = 200, body = DebugHealth)))]
pub(crate) async fn inspect(state: State) -> web::Json<DebugHealth> {
    let answers = state.ask(|hub| async move { Ok(hub.store.ping().await?) }).await.is_ok();
    let asked = state.ask(|hub| async move { Ok(hub.store.view().await?.suspicions().await?) });
    let unreadable_rows = state.hub().store.unreadable();
    let alarms = asked.await.ok().map(|found| Alarms {
        unreadable_rows,
        suspect_chains: bytes(found.chains),
        suspect_points: bytes(found.points),
    });
    let facts = &state.hub().facts;
    web::Json(DebugHealth {
        status: if answers { "ok" } else { "degraded" },
        alarms,
        system_info: SystemInfo {
            version: facts.version.clone(),
            build: facts.build.clone(),
            uptime_seconds: state.started.elapsed().as_secs(),
            database: DatabaseInfo {
                kind: facts.database.clone(),
                status: if answers { "ok" } else { "unavailable" },
            },
            api_endpoints: state.endpoints,
            owed_cleanups: owed::sums(&state).await,
        },
    })
}
