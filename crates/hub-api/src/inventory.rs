//! What sources have, and what of it is under management.

mod conditions_view;
pub(crate) mod discovery;
pub(crate) mod preflight;
pub(crate) mod vm_contexts;
mod vm_query;
pub(crate) mod vm_view;

use actix_web::web;

use crate::endpoint::Endpoint;

/// Longest list of names to add, in bytes of its JSON.
const MAX_ADD_BODY: usize = 32 << 20;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::post("/api/v1/discovery/discover-vms", || web::post().to(discovery::discover)),
    Endpoint::post("/api/v1/discovery/add-vms", || web::post().to(discovery::add))
        .with_body(MAX_ADD_BODY),
    Endpoint::get("/api/v1/vm-contexts", || web::get().to(vm_contexts::list)),
    Endpoint::get("/api/v1/vm-contexts/{vm}", || web::get().to(vm_contexts::show)),
    Endpoint::delete("/api/v1/vm-contexts/{vm}", || web::delete().to(vm_contexts::remove)),
    Endpoint::get("/api/v1/vm-contexts/{vm}/disks", || web::get().to(vm_contexts::disks)),
    Endpoint::get("/api/v1/vm-contexts/{vm}/preflight", || web::get().to(preflight::show)),
    Endpoint::post("/api/v1/vm-contexts/{vm}/refresh", || web::post().to(vm_contexts::refresh)),
];
