//! The pages that explain problem codes, embedded from `docs/problems`.

use actix_web::{HttpResponse, web};
use hub_ports::ErrorClass;

use crate::endpoint::Endpoint;
use crate::problem::Problem;

/// Code and text of every page, sorted by code.
pub(crate) const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/problem_pages.rs"));

pub(crate) const ENDPOINTS: &[Endpoint] =
    &[Endpoint::get("/problems/{code:.*}", || web::get().to(read)).open()];

/// The page of a code: what happened, and what to do; Markdown, without a token.
#[utoipa::path(get, path = "/problems/{code}", tag = "problems", security(()),
    params(("code" = String, Path, description = "A problem's code, with its slash")),
    responses((status = 200, body = String, content_type = "text/markdown")))]
pub(crate) async fn read(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let page = page(&code).ok_or_else(|| {
        let code: String = code.chars().take(80).collect();
        let detail = format!("there is no problem with the code {code}");
        Problem::new(ErrorClass::NotFound, "request/unknown-path", detail)
    })?;
    Ok(HttpResponse::Ok().content_type("text/markdown; charset=utf-8").body(page))
}

/// The name of a problem: the sentence below the heading of its page, which is the code itself.
pub(crate) fn title(code: &str) -> Option<&'static str> {
    page(code)?.lines().skip(1).map(str::trim).find(|line| !line.is_empty())
}

fn page(code: &str) -> Option<&'static str> {
    let place = PAGES.binary_search_by_key(&code, |(code, _)| code).ok()?;
    PAGES.get(place).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_a_name_and_a_plain_code() {
        assert!(!PAGES.is_empty());
        for (code, page) in PAGES {
            assert!(page.starts_with("# "), "{code} starts with its heading");
            assert!(title(code).is_some_and(|title| title.ends_with('.')), "{code}");
            let plain = |it: char| it.is_ascii_lowercase() || it == '-' || it == '/';
            assert!(code.chars().all(plain), "{code}");
        }
    }
}
