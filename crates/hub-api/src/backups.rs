//! Backups: runs, jobs, restore points and chains; each call under its first name and its later one.

pub(crate) mod addressing;
mod audit;
pub(crate) mod chains;
pub(crate) mod listing;
pub(crate) mod points;
pub(crate) mod query;
pub(crate) mod runs;
pub(crate) mod view;

use actix_web::web;

use crate::endpoint::Endpoint;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v1/backups", || web::get().to(listing::list)),
    Endpoint::post("/api/v1/backups", || web::post().to(runs::start)),
    Endpoint::get("/api/v1/backups/stats", || web::get().to(listing::stats)),
    Endpoint::get("/api/v1/backups/{id}", || web::get().to(points::show)),
    Endpoint::delete("/api/v1/backups/{id}", || web::delete().to(points::remove)),
    Endpoint::get("/api/v1/backups/{id}/chain", || web::get().to(chains::of_point)),
    Endpoint::get("/api/v1/backup/list", || web::get().to(listing::list)),
    Endpoint::post("/api/v1/backup/start", || web::post().to(runs::start)),
    Endpoint::get("/api/v1/backup/chain", || web::get().to(chains::of_disk)),
    Endpoint::get("/api/v1/backup/{id}", || web::get().to(points::show)),
    Endpoint::delete("/api/v1/backup/{id}", || web::delete().to(points::remove)),
    Endpoint::get("/api/v1/backup-runs/{id}", || web::get().to(runs::show)),
    Endpoint::post("/api/v1/backup-runs/{id}/cancel", || web::post().to(runs::cancel)),
    Endpoint::get("/api/v1/backup-runs/{id}/events", || web::get().to(runs::events)),
];
