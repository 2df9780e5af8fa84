//! Server-sent events: a resource again whenever it has changed, until its job has ended.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::answer::{Response, State};
use crate::problem::Problem;
use crate::state::Hub;

/// How often the catalogue is asked for a follower: at most twice a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// After how many quiet intervals a comment is sent, so that nothing between hub and client takes the stream for dead.
const QUIET: u32 = 20;

/// A resource that can be followed.
pub(crate) trait Followed: Serialize + Send + 'static {
    /// Whether it will not change any more.
    fn has_ended(&self) -> bool;
}

/// Streams a resource as events; it must exist at the start, and ends with its job, its deletion or the hub.
pub(crate) async fn follow<T, R, F>(state: State, event: &'static str, read: R) -> Response
where
    T: Followed,
    R: Fn(Arc<Hub>) -> F + 'static,
    F: Future<Output = Result<T, Problem>> + Send + 'static,
{
    let first = state.ask(&read).await?;
    let feed = Feed {
        stop: state.hub().stop.clone(),
        state,
        event,
        read,
        last: String::new(),
        next: Some(first),
        quiet: 0,
        has_ended: false,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(feed, Feed::advance)))
}

struct Feed<T, R> {
    state: State,
    event: &'static str,
    read: R,
    last: String,
    /// Read already, and not yet sent.
    next: Option<T>,
    quiet: u32,
    has_ended: bool,
    stop: CancellationToken,
}

impl<T, R, F> Feed<T, R>
where
    T: Followed,
    R: Fn(Arc<Hub>) -> F + 'static,
    F: Future<Output = Result<T, Problem>> + Send + 'static,
{
    /// The next piece of the stream.
    async fn advance(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if self.has_ended {
                return None;
            }
            let resource = match self.next.take() {
                Some(first) => first,
                None => match self.wait_and_read().await? {
                    Some(resource) => resource,
                    None => return Some((Ok(Bytes::from_static(b": alive\n\n")), self)),
                },
            };
            self.has_ended = resource.has_ended();
            let Ok(json) = serde_json::to_string(&resource) else { return None };
            if json != self.last {
                let piece = format!("event: {}\ndata: {json}\n\n", self.event);
                self.last = json;
                self.quiet = 0;
                return Some((Ok(piece.into()), self));
            }
        }
    }

    /// The resource after an interval, or nothing where only a sign of life is due; `None` ends the stream.
    async fn wait_and_read(&mut self) -> Option<Option<T>> {
        tokio::select! {
            () = self.stop.cancelled() => return None,
            () = tokio::time::sleep(INTERVAL) => (),
        }
        self.quiet += 1;
        if self.quiet >= QUIET {
            self.quiet = 0;
            return Some(None);
        }
        match self.state.ask(&self.read).await {
            Ok(resource) => Some(Some(resource)),
            Err(problem) if problem.is_lasting() => None,
            // The database may be back at the next interval.
            Err(_) => Some(None),
        }
    }
}
