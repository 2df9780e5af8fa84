//! The OpenAPI document: made from the handlers, completed with what all calls share.

use actix_web::{HttpResponse, web};
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, Operation, Paths};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref};

use crate::endpoint::Endpoint;
use crate::problem::ProblemBody;
use crate::{access, backups, certificate, health, inventory, jobs, owed, problem_page};

pub(crate) const ENDPOINTS: &[Endpoint] =
    &[Endpoint::get("/api/v1/openapi.json", || web::get().to(show))];

/// Calls that have a second path, and that path.
const ALSO: &[(&str, HttpMethod, &str)] = &[
    ("/health", HttpMethod::Get, "/api/v1/health"),
    ("/api/v1/backups", HttpMethod::Get, "/api/v1/backup/list"),
    ("/api/v1/backups", HttpMethod::Post, "/api/v1/backup/start"),
    ("/api/v1/backups/{id}", HttpMethod::Get, "/api/v1/backup/{id}"),
    ("/api/v1/backups/{id}", HttpMethod::Delete, "/api/v1/backup/{id}"),
];

/// The name of the one security scheme.
const BEARER: &str = "bearer";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sendense Hub",
        description = "Protects VMware virtual machines from Linux: discovery, backups, replication, restore and proof.\n\nSizes and offsets are bytes, times RFC 3339 in UTC, ids UUIDs. Lists are pages: `limit` items after the id `after`. Every error is a problem (RFC 9457), and its `type` is a page that says what to do."
    ),
    components(schemas(ProblemBody<'_>)),
    paths(
        show,
        health::live,
        health::inspect,
        problem_page::read,
        access::credentials::list,
        access::credentials::add,
        access::credentials::show,
        access::credentials::change,
        access::credentials::remove,
        access::source_limit::adjust,
        access::credential_test::test,
        access::vma_nodes::list,
        access::vma_nodes::add,
        access::vma_nodes::show,
        access::vma_nodes::change,
        access::vma_limits::adjust,
        access::vma_nodes::remove,
        access::vma_nodes::test,
        access::repositories::list,
        access::repositories::add,
        access::repositories::show,
        access::repository_settings::adjust,
        access::repositories::remove,
        access::repositories::test,
        inventory::discovery::discover,
        inventory::discovery::add,
        inventory::vm_contexts::list,
        inventory::vm_contexts::show,
        inventory::vm_contexts::disks,
        inventory::preflight::show,
        inventory::vm_contexts::refresh,
        inventory::vm_contexts::remove,
        jobs::replications::list,
        jobs::replications::start,
        jobs::replications::show,
        jobs::replications::remove,
        jobs::replications::cancel,
        jobs::replications::events,
        jobs::restores::list,
        jobs::restores::start,
        jobs::restores::show,
        jobs::restores::cancel,
        jobs::verifications::start,
        jobs::verifications::list,
        jobs::verifications::show,
        jobs::verifications::cancel,
        jobs::exports::list,
        jobs::exports::open,
        jobs::exports::show,
        jobs::exports::close,
        certificate::show,
        backups::listing::list,
        backups::listing::stats,
        backups::points::show,
        backups::points::remove,
        backups::chains::of_disk,
        backups::chains::of_point,
        backups::runs::start,
        backups::runs::show,
        backups::runs::cancel,
        backups::runs::events,
        owed::list,
        owed::strike_off,
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health",
    responses((status = 200, body = Object)))]
pub(crate) async fn show() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document())
}

/// The whole document as JSON.
pub(crate) fn document() -> String {
    let mut text = build().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn build() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    document.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
    add_second_paths(&mut document.paths);
    for (path, item) in &mut document.paths.paths {
        let operations =
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
                .into_iter();
        for (operation, method) in operations.zip(["get", "post", "put", "patch", "delete"]) {
            if let Some(operation) = operation {
                complete(operation, method, path);
            }
        }
    }
    document
}

fn add_second_paths(paths: &mut Paths) {
    for (path, method, second) in ALSO {
        let found = paths.get_path_operation(path, method.clone()).cloned();
        if let Some(operation) = found {
            paths.add_path_operation(*second, vec![method.clone()], operation);
        }
    }
}

/// Gives an operation an id of its own, and the error that every call may answer.
fn complete(operation: &mut Operation, method: &str, path: &str) {
    let words = path.trim_start_matches("/api/v1").replace(['{', '}'], "");
    operation.operation_id = Some(format!("{method}{}", words.replace(['/', '-', '.'], "_")));
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("A problem")
        .content("application/problem+json", content)
        .build();
    operation.responses.responses.insert("default".to_owned(), problem.into());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::endpoint::endpoints;

    #[test]
    fn the_document_and_the_route_table_name_the_same_calls() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let routed: BTreeSet<String> = endpoints()
            .iter()
            .map(|it| format!("{} {}", it.method.name(), it.path.replace("{code:.*}", "{code}")))
            .collect();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_reference_in_the_document_is_defined() {
        let text = document();
        let document: Value = serde_json::from_str(&text).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name} is referred to and not defined");
        }
    }

    #[test]
    fn the_committed_document_is_the_current_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi/hub.json");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == document(),
            "docs/openapi/hub.json is outdated: write it anew with `hub-server --openapi`"
        );
    }
}
