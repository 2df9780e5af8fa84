//! Long work but for backups: replications, restores, verifications and exports.

pub(crate) mod exports;
pub(crate) mod launch;
pub(crate) mod replication_view;
pub(crate) mod replications;
pub(crate) mod restores;
pub(crate) mod verifications;

use actix_web::web;

use crate::endpoint::Endpoint;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v1/replications", || web::get().to(replications::list)),
    Endpoint::post("/api/v1/replications", || web::post().to(replications::start)),
    Endpoint::get("/api/v1/replications/{id}", || web::get().to(replications::show)),
    Endpoint::delete("/api/v1/replications/{id}", || web::delete().to(replications::remove)),
    Endpoint::post("/api/v1/replications/{id}/cancel", || web::post().to(replications::cancel)),
    Endpoint::get("/api/v1/replications/{id}/events", || web::get().to(replications::events)),
    Endpoint::get("/api/v1/restores", || web::get().to(restores::list)),
    Endpoint::post("/api/v1/restores", || web::post().to(restores::start)),
    Endpoint::get("/api/v1/restores/{id}", || web::get().to(restores::show)),
    Endpoint::post("/api/v1/restores/{id}/cancel", || web::post().to(restores::cancel)),
    Endpoint::post("/api/v1/backups/{id}/verify", || web::post().to(verifications::start)),
    Endpoint::get("/api/v1/verifications", || web::get().to(verifications::list)),
    Endpoint::get("/api/v1/verifications/{id}", || web::get().to(verifications::show)),
    Endpoint::post("/api/v1/verifications/{id}/cancel", || web::post().to(verifications::cancel)),
    Endpoint::get("/api/v1/exports", || web::get().to(exports::list)),
    Endpoint::post("/api/v1/exports", || web::post().to(exports::open)),
    Endpoint::get("/api/v1/exports/{id}", || web::get().to(exports::show)),
    Endpoint::delete("/api/v1/exports/{id}", || web::delete().to(exports::close)),
];
