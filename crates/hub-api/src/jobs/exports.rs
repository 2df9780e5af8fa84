//! Read-only NBD exports of restore points; they end with their time, or with the hub.

use std::time::Duration;

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::ids::{BackupJobId, ExportId};
use hub_restore::Export;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Response, State, bytes, created, gone, id};
use crate::certificate;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

const NOT_FOUND: &str = "export/not-found";

/// Seconds that an export lives unless something else is asked for.
const DEFAULT_TTL: f64 = 3600.0;

/// Which point to offer, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewExport {
    backup_id: String,
    /// Whole seconds, at most seven days.
    #[serde(default = "default_ttl")]
    #[schema(value_type = u32, minimum = 1, maximum = 604_800, default = 3600)]
    ttl_seconds: f64,
}

/// An open export.
#[derive(Serialize, ToSchema)]
#[schema(as = Export)]
pub(crate) struct ExportView {
    export_id: Uuid,
    backup_id: Uuid,
    /// What `nbdinfo` and `nbdcopy` take, and in the clear `qemu-img`, too; `nbds:` is NBD over TLS.
    nbd_uri: String,
    /// Over TLS: SHA-256 of the certificate to check the hub against, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_sha256: Option<String>,
    /// Over TLS: where that certificate is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_path: Option<&'static str>,
    capacity_bytes: i64,
    expires_at: DateTime<Utc>,
}

/// Offers a point for reading over NBD, for a limited time.
#[utoipa::path(post, path = "/api/v1/exports", tag = "exports", request_body = NewExport,
    responses((status = 201, body = ExportView)))]
pub(crate) async fn open(state: State, new: web::Json<NewExport>) -> Response {
    let point: BackupJobId = id(&new.backup_id, "backup/not-found", "backup")?;
    let lifetime = whole_seconds(new.ttl_seconds)?;
    let opened = state.carry_out(move |hub| async move {
        Ok(view(&hub.restore.open_export(point, lifetime).await?))
    });
    let opened = opened.await?;
    Ok(created(&format!("/api/v1/exports/{}", opened.export_id), &opened))
}

/// The open exports.
#[utoipa::path(get, path = "/api/v1/exports", tag = "exports", params(PageQuery),
    responses((status = 200, body = Page<ExportView>)))]
pub(crate) async fn list(state: State, query: web::Query<PageQuery>) -> Answer<Page<ExportView>> {
    let open = state.ask(|hub| async move { Ok(hub.restore.list_exports()) }).await?;
    let open = open.into_iter().map(Ok).collect();
    Ok(web::Json(Page::of_all(open, &query, |it| it.id.as_uuid(), |it| view(&it))))
}

/// One open export.
#[utoipa::path(get, path = "/api/v1/exports/{id}", tag = "exports",
    params(("id" = Uuid, Path)), responses((status = 200, body = ExportView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<ExportView> {
    let export: ExportId = id(&of, NOT_FOUND, "export")?;
    let found = state.ask(move |hub| async move { Ok(hub.restore.export(export)) }).await?;
    let found = found.ok_or_else(|| Problem::not_found(NOT_FOUND, "open export", &of))?;
    Ok(web::Json(view(&found)))
}

/// Ends an export.
#[utoipa::path(delete, path = "/api/v1/exports/{id}", tag = "exports",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn close(state: State, of: web::Path<String>) -> Response {
    let export: ExportId = id(&of, NOT_FOUND, "export")?;
    let closing =
        state.carry_out(move |hub| async move { Ok(hub.restore.close_export(export).await?) });
    if closing.await? { Ok(gone()) } else { Err(Problem::not_found(NOT_FOUND, "open export", &of)) }
}

/// `60.0` is sixty for JSON, so it is sixty here; the engine judges whether that is too long.
fn whole_seconds(given: f64) -> Result<Duration, Problem> {
    match Duration::try_from_secs_f64(given) {
        Ok(lifetime) if given.fract() == 0.0 => Ok(lifetime),
        _ => Err(Problem::field("/ttl_seconds", "it is a whole number of seconds above 0")),
    }
}

fn default_ttl() -> f64 {
    DEFAULT_TTL
}

fn view(export: &Export) -> ExportView {
    let address = &export.address;
    // An IPv6 address stands in brackets in a URI.
    let host = if address.host.contains(':') {
        format!("[{}]", address.host)
    } else {
        address.host.clone()
    };
    let scheme = if address.tls.is_some() { "nbds" } else { "nbd" };
    ExportView {
        export_id: export.id.as_uuid(),
        backup_id: export.point.as_uuid(),
        nbd_uri: format!("{scheme}://{host}:{}/{}", address.port, address.export),
        ca_sha256: address.tls.as_ref().map(|tls| tls.authority.clone()),
        ca_path: address.tls.as_ref().map(|_| certificate::PATH),
        capacity_bytes: bytes(export.capacity),
        expires_at: export.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use hub_domain::source::{NbdAddress, NbdTls};

    use super::*;

    #[test]
    fn over_tls_the_answer_says_whom_to_believe() {
        let export = |tls| Export {
            id: ExportId::from_uuid(Uuid::nil()),
            point: BackupJobId::from_uuid(Uuid::nil()),
            address: NbdAddress { host: "::1".to_owned(), port: 9, export: "x".to_owned(), tls },
            capacity: 512,
            expires_at: DateTime::UNIX_EPOCH,
        };
        let plain = serde_json::to_value(view(&export(None))).unwrap();
        assert_eq!((&plain["nbd_uri"], plain.get("ca_path")), (&"nbd://[::1]:9/x".into(), None));
        let tls = NbdTls { server_name: "hub.internal".to_owned(), authority: "ab".repeat(32) };
        let tls = serde_json::to_value(view(&export(Some(tls)))).unwrap();
        assert_eq!(tls["nbd_uri"], "nbds://[::1]:9/x");
        assert_eq!(
            (&tls["ca_sha256"], &tls["ca_path"]),
            (&"ab".repeat(32).into(), &certificate::PATH.into())
        );
    }

    #[test]
    fn lifetimes_are_whole_seconds() {
        assert_eq!(whole_seconds(60.0).ok(), Some(Duration::from_secs(60)));
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY] {
            assert!(whole_seconds(bad).is_err(), "{bad}");
        }
    }
}
