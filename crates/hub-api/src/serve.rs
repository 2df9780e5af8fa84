//! An HTTP server of its own for the API.

use std::io;
use std::net::TcpListener;

use actix_web::{App, HttpServer};
use tokio_util::sync::CancellationToken;

use crate::service::Api;

/// HTTP workers; they only read and write HTTP, the work is done on the hub's runtime.
const WORKERS: usize = 2;

/// Seconds that open connections get when the server stops.
const LINGER_SECONDS: u64 = 5;

/// Serves the API until `stop` is cancelled, then ends: running requests get a few seconds.
///
/// Cancel the hub's own stop token first, since event streams end with it and with nothing else.
pub async fn serve(listener: TcpListener, api: Api, stop: CancellationToken) -> io::Result<()> {
    let server = HttpServer::new(move || App::new().configure(|config| api.configure(config)))
        .workers(WORKERS)
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
