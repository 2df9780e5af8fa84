//! Registered VMAs; each has to prove that it knows its token before it is stored.

use actix_web::http::Uri;
use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::access::VmaNode;
use hub_domain::ids::VmaNodeId;
use hub_domain::limits::{CopyCount, VmaLimits};
use hub_domain::reader_choice::SourceName;
use hub_ports::store::note_source;
use hub_ports::{Catalogue, NodeIdentity};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::credentials::required;
use super::setting::{Whole, copies, rate};
use crate::answer::{Answer, Response, State, bytes, created, gone, id};
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

/// A VMA, without its token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VmaNode)]
pub(crate) struct VmaNodeView {
    id: Uuid,
    name: String,
    url: String,
    /// `folder` or `vsphere`.
    source_kind: String,
    /// The vCenter or host that it reads; null for a folder, and where it is not known.
    source_host: Option<String>,
    /// That one's own id, where discovery or a test has found it.
    source_uuid: Option<String>,
    /// Copies from it at a time; null where only the hub's own limit holds.
    max_concurrent_copies: Option<u32>,
    /// What all its copies together may send, in bytes per second; null is without limit.
    max_bytes_per_second: Option<i64>,
    /// What it runs, where it was asked just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    created_at: DateTime<Utc>,
}

/// A VMA to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVmaNode {
    /// A name of your own, not used yet.
    name: String,
    /// Its base URL (`http://10.0.0.5:8081`).
    url: String,
    /// The token that it printed; stored encrypted and never answered.
    token: String,
    /// Copies from it at a time; without limit unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Whole>,
    /// What all its copies together may send, in bytes per second; without limit unless given.
    #[schema(value_type = Option<u64>, minimum = 65536)]
    max_bytes_per_second: Option<Whole>,
}

/// A VMA as it shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangedVmaNode {
    name: String,
    url: String,
    /// Left out, it stays as it is.
    token: Option<String>,
}

/// What a VMA answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VmaNodeWorks {
    ok: bool,
    /// The name it was configured with.
    name: String,
    version: String,
    /// `folder` or `vsphere`.
    source_kind: String,
    /// The vCenter or host that it reads; null for a folder.
    source_host: Option<String>,
}

/// All VMAs.
#[utoipa::path(get, path = "/api/v1/vma-nodes", tag = "vma-nodes", params(PageQuery),
    responses((status = 200, body = Page<VmaNodeView>)))]
pub(crate) async fn list(state: State, query: web::Query<PageQuery>) -> Answer<Page<VmaNodeView>> {
    let all = state.ask(|hub| async move { Ok(hub.store.view().await?.vma_nodes().await?) });
    let page = Page::of_all(all.await?, &query, |it| it.id.as_uuid(), |it| view(&it, None));
    Ok(web::Json(page))
}

/// Registers a VMA after it has proved that it knows the token; from then on it sends disks to this hub only.
#[utoipa::path(post, path = "/api/v1/vma-nodes", tag = "vma-nodes", request_body = NewVmaNode,
    responses((status = 201, body = VmaNodeView)))]
pub(crate) async fn add(state: State, new: web::Json<NewVmaNode>) -> Response {
    let new = new.into_inner();
    let made = state.carry_out(|hub| async move {
        let mut node = VmaNode {
            id: VmaNodeId::from_uuid(hub.ids.new_id()),
            name: required("name", &new.name)?,
            url: base_url(&new.url)?,
            token: token(&new.token)?,
            source_kind: String::new(),
            source: SourceName::default(),
            limits: VmaLimits {
                copies: copies(new.max_concurrent_copies)?,
                rate: rate(new.max_bytes_per_second)?,
            },
            created_at: hub.clock.now(),
        };
        let identity = hub.source.introduce(&node).await?;
        node.source_kind = kind(&identity)?;
        node.source = node.source.at(source_host(&identity)?);
        let mut work = hub.store.begin().await?;
        work.insert_vma_node(&node).await?;
        work.commit().await?;
        Ok(view(&node, Some(identity.version)))
    });
    let made = made.await?;
    Ok(created(&format!("/api/v1/vma-nodes/{}", made.id), &made))
}

/// One VMA.
#[utoipa::path(get, path = "/api/v1/vma-nodes/{id}", tag = "vma-nodes",
    params(("id" = Uuid, Path)), responses((status = 200, body = VmaNodeView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<VmaNodeView> {
    let found = state.ask(|hub| async move {
        Ok(view(&find(hub.store.view().await?.as_mut(), &of).await?, None))
    });
    found.await.map(web::Json)
}

/// Changes a VMA; it has to prove itself again, and its limits stay as they are.
#[utoipa::path(put, path = "/api/v1/vma-nodes/{id}", tag = "vma-nodes",
    params(("id" = Uuid, Path)), request_body = ChangedVmaNode,
    responses((status = 200, body = VmaNodeView)))]
pub(crate) async fn change(
    state: State,
    of: web::Path<String>,
    changed: web::Json<ChangedVmaNode>,
) -> Answer<VmaNodeView> {
    let changed = changed.into_inner();
    let stored = state.carry_out(|hub| async move {
        let mut node = find(hub.store.view().await?.as_mut(), &of).await?;
        node.name = required("name", &changed.name)?;
        node.url = base_url(&changed.url)?;
        if let Some(new) = changed.token {
            node.token = token(&new)?;
        }
        let identity = hub.source.introduce(&node).await?;
        node.source_kind = kind(&identity)?;
        node.source = node.source.at(source_host(&identity)?);
        let _alone = hub.supervisor.copies().settings().await;
        let mut work = hub.store.begin().await?;
        // Somebody may have changed them while the VMA was asked.
        node.limits = find(work.as_mut(), &of).await?.limits;
        work.update_vma_node(&node).await?;
        work.commit().await?;
        hub.supervisor.copies().set_vma(&node);
        Ok(view(&node, Some(identity.version)))
    });
    stored.await.map(web::Json)
}

/// Removes a VMA that no VM needs.
#[utoipa::path(delete, path = "/api/v1/vma-nodes/{id}", tag = "vma-nodes",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn remove(state: State, of: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let mut work = hub.store.begin().await?;
        let node = find(work.as_mut(), &of).await?;
        work.delete_vma_node(node.id).await?;
        Ok(work.commit().await?)
    });
    removed.await.map(|()| gone())
}

/// Really asks a VMA who it is, and whether it knows this hub.
#[utoipa::path(post, path = "/api/v1/vma-nodes/{id}/test", tag = "vma-nodes",
    params(("id" = Uuid, Path)), responses((status = 200, body = VmaNodeWorks)))]
pub(crate) async fn test(state: State, of: web::Path<String>) -> Answer<VmaNodeWorks> {
    let tried = state.carry_out(|hub| async move {
        let node = find(hub.store.view().await?.as_mut(), &of).await?;
        let identity = hub.source.introduce(&node).await?;
        let found = SourceName { host: source_host(&identity)?, uuid: None };
        note_source(hub.store.as_ref(), node.id, &found).await?;
        let NodeIdentity { name, version, source_kind, source_host } = identity;
        Ok(VmaNodeWorks { ok: true, name, version, source_kind, source_host })
    });
    tried.await.map(web::Json)
}

/// No VMA has this id.
pub(super) fn not_found(text: &str) -> Problem {
    Problem::not_found("vma/not-found", "VMA", text)
}

pub(super) async fn find(
    catalogue: &mut (impl Catalogue + ?Sized),
    text: &str,
) -> Result<VmaNode, Problem> {
    let node = catalogue.vma_node(id(text, "vma/not-found", "VMA")?).await?;
    node.ok_or_else(|| not_found(text))
}

pub(super) fn view(node: &VmaNode, version: Option<String>) -> VmaNodeView {
    VmaNodeView {
        id: node.id.as_uuid(),
        name: node.name.clone(),
        url: node.url.clone(),
        source_kind: node.source_kind.clone(),
        source_host: node.source.host.clone(),
        source_uuid: node.source.uuid.clone(),
        max_concurrent_copies: node.limits.copies.map(CopyCount::get),
        max_bytes_per_second: node.limits.rate.map(|it| bytes(it.bytes_per_second())),
        version,
        created_at: node.created_at,
    }
}

/// What a VMA reads from is stored, so it is bounded like everything from outside.
fn kind(identity: &NodeIdentity) -> Result<String, Problem> {
    required("source_kind", &identity.source_kind)
}

/// What a VMA calls its vCenter or host, bounded as well.
fn source_host(identity: &NodeIdentity) -> Result<Option<String>, Problem> {
    identity.source_host.as_deref().map(|it| required("source_host", it)).transpose()
}

/// A base URL: a scheme, a host, perhaps a port and a path; never a login or a query, which would be shown again.
fn base_url(given: &str) -> Result<String, Problem> {
    let text = required("url", given)?;
    let wrong = || Problem::field("/url", "it is a base URL such as http://10.0.0.5:8081");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let authority = url.authority().ok_or_else(wrong)?;
    let plain = matches!(url.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && url.query().is_none()
        && !text.contains('#');
    if plain { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

/// A token travels in a header, so it is visible ASCII.
fn token(given: &str) -> Result<SecretString, Problem> {
    let given = given.trim();
    let fits = (8..=512).contains(&given.len()) && given.bytes().all(|it| it.is_ascii_graphic());
    if !fits {
        let detail = "it has between 8 and 512 visible ASCII characters, as the VMA printed it";
        return Err(Problem::field("/token", detail));
    }
    Ok(given.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_carry_no_login_and_no_query() {
        for good in ["http://10.0.0.5:8081", "https://vma.example/", "http://[::1]:80/vma"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        assert_eq!(base_url("http://a:1/").ok().as_deref(), Some("http://a:1"));
        for bad in
            ["", "10.0.0.5", "ftp://a", "http://u:p@a", "http://a?x=1", "http://a/#b", "file:///x"]
        {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_fit_in_a_header() {
        assert!(token("0123456789abcdef").is_ok());
        for bad in ["", "short", "with space inside", "ünïcödé-token"] {
            assert!(token(bad).is_err(), "{bad}");
        }
    }
}
