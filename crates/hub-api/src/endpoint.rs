//! The one table of calls: the routes are built from it, counted in it, and compared with the OpenAPI document.

use std::collections::BTreeMap;

use actix_web::Route;

use crate::{access, backups, certificate, health, inventory, jobs, openapi, owed, problem_page};

/// Everything that needs a token lies below here.
pub(crate) const BASE: &str = "/api/v1";

/// The longest body that most calls read, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// One call.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    /// The whole path, with its parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) route: fn() -> Route,
    /// Whether it is answered without a token.
    pub(crate) open: bool,
    /// The longest body that is read, in bytes.
    pub(crate) max_body: usize,
}

/// The methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// Its name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl Endpoint {
    pub(crate) const fn get(path: &'static str, route: fn() -> Route) -> Self {
        Self { method: Method::Get, path, route, open: false, max_body: MAX_BODY }
    }

    pub(crate) const fn post(path: &'static str, route: fn() -> Route) -> Self {
        Self { method: Method::Post, path, route, open: false, max_body: MAX_BODY }
    }

    pub(crate) const fn put(path: &'static str, route: fn() -> Route) -> Self {
        Self { method: Method::Put, path, route, open: false, max_body: MAX_BODY }
    }

    pub(crate) const fn patch(path: &'static str, route: fn() -> Route) -> Self {
        Self { method: Method::Patch, path, route, open: false, max_body: MAX_BODY }
    }

    pub(crate) const fn delete(path: &'static str, route: fn() -> Route) -> Self {
        Self { method: Method::Delete, path, route, open: false, max_body: MAX_BODY }
    }

    /// Reads longer bodies than the others.
    pub(crate) const fn with_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// Answered without a token.
    pub(crate) const fn open(self) -> Self {
        Self { open: true, ..self }
    }
}

/// Every call of the API.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    [
        health::ENDPOINTS,
        openapi::ENDPOINTS,
        problem_page::ENDPOINTS,
        access::ENDPOINTS,
        inventory::ENDPOINTS,
        jobs::ENDPOINTS,
        certificate::ENDPOINTS,
        backups::ENDPOINTS,
        owed::ENDPOINTS,
    ]
    .concat()
}

/// The calls by path, in the order in which a router must try them: at each segment the literal ones come before the
/// parameters, so that `/backups/stats` is never taken for a backup's id (trap D28).
pub(crate) fn by_path(endpoints: Vec<Endpoint>) -> Vec<(&'static str, Vec<Endpoint>)> {
    let order = |path: &'static str| {
        path.split('/').map(|it| (it.starts_with('{'), it)).collect::<Vec<(bool, &str)>>()
    };
    let mut paths = BTreeMap::new();
    for endpoint in endpoints {
        let at_path = paths.entry(order(endpoint.path)).or_insert((endpoint.path, Vec::new()));
        at_path.1.push(endpoint);
    }
    paths.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_d28_no_path_hides_behind_a_parameter() {
        let paths: Vec<&str> = by_path(endpoints()).into_iter().map(|(path, _)| path).collect();
        for (place, path) in paths.iter().enumerate() {
            for earlier in &paths[..place] {
                assert!(!captures(earlier, path), "{earlier} is tried before {path}");
            }
        }
    }

    /// Whether a router that tries `pattern` first would give it the requests meant for `path`.
    fn captures(pattern: &str, path: &str) -> bool {
        let (pattern, path): (Vec<&str>, Vec<&str>) =
            (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(it, at)| it.starts_with('{') || it == at)
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<(&str, Method)> =
            endpoints().into_iter().map(|it| (it.path, it.method)).collect();
        let all = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), all);
    }
}
