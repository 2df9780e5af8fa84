//! The calls, one function each.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, Resource, web};
use hub_vma_api::{
    CleanupOutcome, CleanupReport, CleanupRequest, CopyReport, CopyRequest, Credentials,
    CredentialsTest, DiscoverRequest, Fault, Health, Identity, Introduced, Introduction, Inventory,
    OwedSnapshots, StrikeOffReport, StrikeOffRequest,
};
use serde::Deserialize;

use super::problem::ApiProblem;
use super::{Api, auth};
use crate::source::SourceError;

/// The version of the contract.
const API_VERSION: u32 = 1;

/// The longest that an answer about a job's progress is held back, whatever was asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Everything below `/api/v1` asks for the token, but for the proofs at both ends, which come before it.
pub(super) fn add(config: &mut web::ServiceConfig) {
    let guarded = web::scope("/api/v1")
        .wrap(from_fn(auth::require_token))
        .service(
            resource("/discover", "GET, POST")
                .route(web::get().to(discover_all))
                .route(web::post().to(discover)),
        )
        .service(resource("/backup/start", "POST").route(web::post().to(start)))
        .service(resource("/replicate", "POST").route(web::post().to(start)))
        .service(resource("/progress/{job_id}", "GET").route(web::get().to(progress)))
        .service(resource("/jobs/{job_id}/cancel", "POST").route(web::post().to(cancel)))
        .service(resource("/credentials/test", "POST").route(web::post().to(test_credentials)))
        .service(resource("/snapshots/cleanup", "POST").route(web::post().to(clean_up)))
        .service(resource("/snapshots/owed", "GET").route(web::get().to(owed)))
        .service(resource("/snapshots/strike-off", "POST").route(web::post().to(strike_off)))
        .default_service(web::to(unknown_path));
    config
        .service(resource("/health", "GET").route(web::get().to(health)))
        .service(resource("/api/v1/identity", "GET").route(web::get().to(identity)))
        .service(resource("/api/v1/introduction", "POST").route(web::post().to(introduction)))
        .service(guarded)
        .default_service(web::to(unknown_path));
}

/// A path that answers a wrong method with what it allows.
fn resource(path: &str, allow: &'static str) -> Resource {
    let refuse = move || async move {
        Err::<HttpResponse, ApiProblem>(ApiProblem::method_not_allowed(allow))
    };
    web::resource(path).default_service(web::to(refuse))
}

async fn health(api: web::Data<Api>) -> web::Json<Health> {
    web::Json(Health { status: "ok".to_owned(), version: api.version.clone() })
}

#[derive(Deserialize)]
struct IdentityQuery {
    nonce: String,
}

/// Proves that this VMA knows the token; the nonce is 32 bytes, and it is the bytes that are hashed.
async fn identity(
    api: web::Data<Api>,
    query: web::Query<IdentityQuery>,
) -> Result<web::Json<Identity>, ApiProblem> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(&query.nonce, &mut nonce).map_err(|_| {
        let detail = "the nonce is 64 hexadecimal digits";
        ApiProblem::new(StatusCode::BAD_REQUEST, "request/invalid-nonce", detail)
    })?;
    Ok(web::Json(Identity {
        name: api.name.clone(),
        version: api.version.clone(),
        api_version: API_VERSION,
        source_kind: api.jobs.source().kind().to_owned(),
        proof: api.token.proof(&nonce),
        challenge: Some(hex::encode(api.challenge)),
    }))
}

/// Takes a hub for the one that this VMA belongs to.
///
/// The proof stands in the place of the token, which would be read by whoever reads the wire: an introduction comes
/// before anything else, and settles where disks go from then on.
async fn introduction(
    api: web::Data<Api>,
    introduction: web::Json<Introduction>,
) -> Result<web::Json<Introduced>, ApiProblem> {
    let Introduction { certificate, proof } = introduction.into_inner();
    if !api.token.vouches_for(&api.challenge, &certificate, &proof) {
        let detail = "the proof does not come from a holder of this VMA's token; see its output for the token, and try again if the VMA was restarted just now";
        return Err(ApiProblem::new(StatusCode::UNAUTHORIZED, "request/unauthorized", detail));
    }
    // Keeping it waits for the disk, which is no work for this thread.
    let source_host = api.jobs.source().host();
    let pinned = web::block(move || api.jobs.hub().pin(&certificate)).await;
    let pinned = pinned.map_err(|_| ApiProblem::stopping())?;
    Ok(web::Json(Introduced { authority: pinned?, source_host }))
}

async fn discover_all(api: web::Data<Api>) -> Result<web::Json<Inventory>, ApiProblem> {
    Ok(web::Json(api.jobs.source().inventory(&DiscoverRequest::default()).await?))
}

async fn discover(
    api: web::Data<Api>,
    request: web::Json<DiscoverRequest>,
) -> Result<web::Json<Inventory>, ApiProblem> {
    Ok(web::Json(api.jobs.source().inventory(&request).await?))
}

/// A backup and a replication are the same work for a VMA; only the hub's targets differ.
async fn start(
    api: web::Data<Api>,
    request: web::Json<CopyRequest>,
) -> Result<HttpResponse, ApiProblem> {
    Ok(accepted(&api.jobs.start(request.into_inner()).await?))
}

#[derive(Deserialize)]
struct ProgressQuery {
    /// Disks whose end the asker knows of.
    #[serde(default)]
    ended: usize,
    /// How long to wait for news.
    #[serde(default)]
    wait_ms: u64,
}

async fn progress(
    api: web::Data<Api>,
    job_id: web::Path<String>,
    query: web::Query<ProgressQuery>,
) -> Result<web::Json<CopyReport>, ApiProblem> {
    let wait = Duration::from_millis(query.wait_ms).min(LONGEST_WAIT);
    let report = api.jobs.report_after(&job_id, query.ended, wait).await;
    // Trap D38: an unknown job is an error, so that the hub learns that this VMA was restarted.
    Ok(web::Json(report.ok_or_else(|| ApiProblem::unknown_job(&job_id))?))
}

async fn cancel(
    api: web::Data<Api>,
    job_id: web::Path<String>,
) -> Result<HttpResponse, ApiProblem> {
    let report = api.jobs.cancel(&job_id).ok_or_else(|| ApiProblem::unknown_job(&job_id))?;
    Ok(accepted(&report))
}

/// Whether a login works, tried for real.
async fn test_credentials(
    api: web::Data<Api>,
    credentials: web::Json<Credentials>,
) -> Result<web::Json<CredentialsTest>, ApiProblem> {
    Ok(web::Json(api.jobs.source().test(&credentials).await?))
}

/// Removes what a job that is over has left.
async fn clean_up(
    api: web::Data<Api>,
    request: web::Json<CleanupRequest>,
) -> Result<web::Json<CleanupReport>, ApiProblem> {
    let job_id = &request.job_id;
    let known = api.jobs.report(job_id).is_some();
    if let Err(error) = is_over(&api, job_id) {
        return Ok(web::Json(in_use(&error)));
    }
    let report = api.jobs.source().clean_up(&request).await?;
    // An order may have come meanwhile, and the hub would forget what it takes.
    let came = !known && api.jobs.report(job_id).is_some();
    if report.outcome != CleanupOutcome::Failed && (came || api.jobs.is_at_work(job_id)) {
        return Ok(web::Json(in_use(&SourceError::SnapshotInUse(job_id.clone()))));
    }
    Ok(web::Json(report))
}

fn in_use(error: &SourceError) -> CleanupReport {
    let fault = Fault { code: error.code().to_owned(), detail: error.to_string() };
    CleanupReport { outcome: CleanupOutcome::Failed, error: Some(fault) }
}

/// A job at work may not have taken its snapshot before this moment.
fn is_over(api: &Api, job_id: &str) -> Result<(), SourceError> {
    if api.jobs.is_at_work(job_id) {
        return Err(SourceError::SnapshotInUse(job_id.to_owned()));
    }
    Ok(())
}

/// What this VMA has on record.
async fn owed(api: web::Data<Api>) -> web::Json<OwedSnapshots> {
    web::Json(OwedSnapshots { items: api.jobs.source().owed() })
}

/// Takes a snapshot off the record without a look at its source.
async fn strike_off(
    api: web::Data<Api>,
    request: web::Json<StrikeOffRequest>,
) -> Result<web::Json<StrikeOffReport>, ApiProblem> {
    is_over(&api, &request.job_id)?;
    let struck_off = api.jobs.source().strike_off(&request.job_id).await?;
    Ok(web::Json(StrikeOffReport { struck_off }))
}

fn accepted(report: &CopyReport) -> HttpResponse {
    let location = format!("/api/v1/progress/{}", report.job_id);
    HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(report)
}

async fn unknown_path() -> Result<HttpResponse, ApiProblem> {
    Err(ApiProblem::unknown_path())
}
