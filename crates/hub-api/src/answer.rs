//! The shapes that answers share.

use std::str::FromStr;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::problem::Problem;
use crate::state::ApiState;

/// What handlers get the hub from.
pub(crate) type State = web::Data<ApiState>;

/// A JSON answer, or a problem.
pub(crate) type Answer<T> = Result<web::Json<T>, Problem>;

/// An answer with a status or headers of its own, or a problem.
pub(crate) type Response = Result<HttpResponse, Problem>;

/// 201 with the new resource and where it is.
pub(crate) fn created(location: &str, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Created().insert_header((header::LOCATION, location)).json(body)
}

/// 202 with the job and where to ask for it.
pub(crate) fn accepted(location: &str, body: &impl Serialize) -> HttpResponse {
    HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(body)
}

/// 204.
pub(crate) fn gone() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Reads the id of a thing from a path: a text that is no id names nothing.
pub(crate) fn id<T: FromStr>(text: &str, code: &'static str, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(code, what, text))
}

/// A size or counter for JSON readers that know signed 64-bit integers only.
pub(crate) fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How much is done, in whole percent; 100 only when everything is.
pub(crate) fn percent(done: u64, total: u64, is_complete: bool) -> u8 {
    if is_complete {
        return 100;
    }
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u8::try_from(percent.min(99)).unwrap_or(99)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_percent_is_said_only_of_what_is_complete() {
        assert_eq!(percent(0, 0, false), 0);
        assert_eq!(percent(50, 100, false), 50);
        assert_eq!(percent(100, 100, false), 99);
        assert_eq!(percent(u64::MAX, u64::MAX, false), 99);
        assert_eq!(percent(0, 0, true), 100);
    }
}
