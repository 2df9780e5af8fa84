//! What the hub is set up with: repositories, logins and VMAs.

pub(crate) mod credential_test;
pub(crate) mod credentials;
pub(crate) mod repositories;
pub(crate) mod repository_settings;
pub(crate) mod setting;
pub(crate) mod source_limit;
pub(crate) mod vma_limits;
pub(crate) mod vma_nodes;

use actix_web::web;

use crate::endpoint::Endpoint;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/api/v1/vmware-credentials", || web::get().to(credentials::list)),
    Endpoint::post("/api/v1/vmware-credentials", || web::post().to(credentials::add)),
    Endpoint::get("/api/v1/vmware-credentials/{id}", || web::get().to(credentials::show)),
    Endpoint::put("/api/v1/vmware-credentials/{id}", || web::put().to(credentials::change)),
    Endpoint::patch("/api/v1/vmware-credentials/{id}", || web::patch().to(source_limit::adjust)),
    Endpoint::delete("/api/v1/vmware-credentials/{id}", || web::delete().to(credentials::remove)),
    Endpoint::post("/api/v1/vmware-credentials/{id}/test", || {
        web::post().to(credential_test::test)
    }),
    Endpoint::get("/api/v1/vma-nodes", || web::get().to(vma_nodes::list)),
    Endpoint::post("/api/v1/vma-nodes", || web::post().to(vma_nodes::add)),
    Endpoint::get("/api/v1/vma-nodes/{id}", || web::get().to(vma_nodes::show)),
    Endpoint::put("/api/v1/vma-nodes/{id}", || web::put().to(vma_nodes::change)),
    Endpoint::patch("/api/v1/vma-nodes/{id}", || web::patch().to(vma_limits::adjust)),
    Endpoint::delete("/api/v1/vma-nodes/{id}", || web::delete().to(vma_nodes::remove)),
    Endpoint::post("/api/v1/vma-nodes/{id}/test", || web::post().to(vma_nodes::test)),
    Endpoint::get("/api/v1/repositories", || web::get().to(repositories::list)),
    Endpoint::post("/api/v1/repositories", || web::post().to(repositories::add)),
    Endpoint::get("/api/v1/repositories/{id}", || web::get().to(repositories::show)),
    Endpoint::patch("/api/v1/repositories/{id}", || web::patch().to(repository_settings::adjust)),
    Endpoint::delete("/api/v1/repositories/{id}", || web::delete().to(repositories::remove)),
    Endpoint::post("/api/v1/repositories/{id}/test", || web::post().to(repositories::test)),
];
