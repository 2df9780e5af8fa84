//! Builds the routes from the table.

use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, Resource, web};
use hub_domain::ids::{BackupRunId, ReplicationJobId};
use hub_ports::store::unless_unreadable;
use hub_ports::{ErrorClass, StoreError};

use crate::endpoint::{BASE, Endpoint, MAX_BODY, by_path, endpoints};
use crate::problem::Problem;
use crate::state::{ApiState, Hub};
use crate::unclaimed::UNTOLD;
use crate::{auth, backups, fence, jobs, malformed, openapi, unclaimed};

/// The API, ready to be mounted; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Api {
    state: web::Data<ApiState>,
}

impl Api {
    /// Makes the API of a hub; its work runs on the runtime that this is called from.
    pub fn new(hub: Hub) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { state: web::Data::new(ApiState::new(hub, endpoints().len(), runtime)) }
    }

    /// Adds all calls, the error shape and the limits to an actix application.
    ///
    /// It also sets the application's default service, so that unknown paths have the error shape too.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(self.state.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::QueryConfig::default().error_handler(malformed::of_query))
            .app_data(web::PathConfig::default().error_handler(malformed::of_path));
        let mut guarded = web::scope(BASE);
        for (path, endpoints) in by_path(endpoints()) {
            if endpoints.iter().any(|it| it.open) {
                config.service(resource(path, &endpoints).wrap(from_fn(fence::fence)));
            } else {
                let below = path.strip_prefix(BASE).unwrap_or(path);
                guarded = guarded.service(resource(below, &endpoints));
            }
        }
        let guarded = guarded
            .default_service(web::to(unknown_path))
            .wrap(from_fn(auth::require_token))
            .wrap(from_fn(fence::fence));
        config.service(guarded).default_service(web::to(unknown_path).wrap(from_fn(fence::fence)));
    }

    /// Lets what an earlier hub left waiting join the line of copies, each under the key by which it can be cancelled.
    ///
    /// Call it once the VMAs can reach the hub's exports.
    pub async fn take_up(
        &self,
        backups: impl IntoIterator<Item = BackupRunId>,
        replications: impl IntoIterator<Item = ReplicationJobId>,
    ) -> Result<(), StoreError> {
        let hub = self.state.hub();
        for id in backups {
            unless_unreadable(backups::runs::take_up(hub, id).await, UNTOLD)?;
        }
        for id in replications {
            unless_unreadable(jobs::replications::take_up(hub, id).await, UNTOLD)?;
        }
        Ok(())
    }

    /// Takes up stored jobs that wait and that nobody has, because the answer to the commit that stored them was lost.
    ///
    /// Call it again and again; it finds nothing as long as the catalogue answers.
    pub async fn claim_unclaimed(&self) -> Result<(), StoreError> {
        unclaimed::claim(self.state.hub()).await
    }

    /// Waits until everything that was begun for a client is finished; nothing new is begun from now on.
    pub async fn settle(&self) {
        self.state.settle().await;
    }

    /// The OpenAPI document, as `GET /api/v1/openapi.json` answers it.
    pub fn openapi() -> String {
        openapi::document()
    }
}

/// The body's limit with the error shape.
fn json_limit(bytes: usize) -> web::JsonConfig {
    web::JsonConfig::default().limit(bytes).error_handler(malformed::of_json)
}

/// A path that answers a wrong method with what it allows.
fn resource(path: &str, endpoints: &[Endpoint]) -> Resource {
    let allow: Vec<&str> = endpoints.iter().map(|it| it.method.name()).collect();
    let allow = allow.join(", ");
    let refuse = move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, Problem>(method_not_allowed(allow)) }
    };
    let max_body = endpoints.iter().map(|it| it.max_body).max().unwrap_or(MAX_BODY);
    let resource = web::resource(path.to_owned()).app_data(json_limit(max_body));
    endpoints
        .iter()
        .fold(resource, |resource, it| resource.route((it.route)()))
        .default_service(web::to(refuse))
}

fn method_not_allowed(allow: String) -> Problem {
    let status = actix_web::http::StatusCode::METHOD_NOT_ALLOWED;
    let detail = format!("this path answers {allow}");
    Problem::with_status(status, "request/method-not-allowed", detail).with_allow(allow)
}

async fn unknown_path() -> Result<HttpResponse, Problem> {
    let detail = "there is nothing at this path; GET /api/v1/openapi.json lists what there is";
    Err(Problem::new(ErrorClass::NotFound, "request/unknown-path", detail))
}
