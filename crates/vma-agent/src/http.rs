//! The HTTP API of a VMA, as `hub-vma-api` defines it.

mod auth;
mod problem;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::{App, HttpServer, web};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::jobs::Jobs;
use auth::TokenCheck;

/// The longest body that is read, in bytes; a request for hundreds of disks has some 100 KiB.
const MAX_BODY: usize = 1 << 20;

/// Seconds that open connections get when the server stops.
const LINGER_SECONDS: u64 = 3;

/// What the API answers from.
pub struct Api {
    name: String,
    version: String,
    jobs: Arc<Jobs>,
    token: TokenCheck,
    /// What a hub's introduction has to cover, so that an old one cannot be played back.
    challenge: [u8; 32],
}

impl Api {
    /// An API that calls itself `name`, shows `version`, and asks for `token`.
    ///
    /// Only digests of the token are kept.
    pub fn new(name: &str, version: &str, token: &SecretString, jobs: Arc<Jobs>) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            jobs,
            token: TokenCheck::new(token.expose_secret()),
            challenge: rand::random(),
        }
    }
}

/// Adds all routes, the error shape and the limits to an actix application.
///
/// It also sets the application's default service, so that unknown paths have the error shape too.
pub fn configure(api: Arc<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(web::Data::from(api))
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::JsonConfig::default().limit(MAX_BODY).error_handler(problem::of_json))
            .app_data(web::QueryConfig::default().error_handler(problem::of_query))
            .app_data(web::PathConfig::default().error_handler(problem::of_path));
        routes::add(config);
    }
}

/// Serves the API until `stop` is cancelled; running requests get a few seconds to end.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    stop: CancellationToken,
) -> io::Result<()> {
    let server = HttpServer::new(move || App::new().configure(configure(api.clone())))
        .workers(2)
        .disable_signals()
        .shutdown_timeout(LINGER_SECONDS)
        .listen(listener)?
        .run();
    let handle = server.handle();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = stop.cancelled() => (),
    }
    let ((), ended) = tokio::join!(handle.stop(true), server);
    ended
}
