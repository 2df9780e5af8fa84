//! Logins for vCenters and ESXi hosts; the password goes in and never comes back.

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::access::{Credential, VmaNode};
use hub_domain::ids::{CredentialId, VmaNodeId};
use hub_domain::source::SourceAbout;
use hub_domain::text::{self, MAX_TEXT};
use hub_ports::{Catalogue, ErrorClass};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::vma_nodes;
use crate::answer::{Answer, Response, State, created, gone, id};
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

/// Longest password, in characters.
const MAX_PASSWORD: usize = 1024;

/// A login, without its password.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credential)]
pub(crate) struct CredentialView {
    id: Uuid,
    name: String,
    vcenter_host: String,
    username: String,
    datacenter: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A new login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredential {
    /// A name of your own, not used yet.
    name: String,
    /// Host name or address of the vCenter or ESXi host.
    vcenter_host: String,
    username: String,
    /// Stored encrypted and never answered.
    password: String,
    /// Only VMs of this datacenter.
    datacenter: Option<String>,
}

/// A login as it shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangedCredential {
    name: String,
    vcenter_host: String,
    username: String,
    /// Left out, it stays as it is.
    password: Option<String>,
    datacenter: Option<String>,
}

/// Which VMA tries the login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialTest {
    vma_node_id: Uuid,
}

/// The login works, and who let it in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialWorks {
    ok: bool,
    /// Full name of the product, with its version.
    product: String,
    version: String,
    build: String,
    /// `VirtualCenter` or `HostAgent`.
    api_type: String,
    /// The endpoint's own id, by which its VMs are known; null for an ESXi host.
    instance_uuid: Option<String>,
}

/// All logins.
#[utoipa::path(get, path = "/api/v1/vmware-credentials", tag = "credentials", params(PageQuery),
    responses((status = 200, body = Page<CredentialView>)))]
pub(crate) async fn list(
    state: State,
    query: web::Query<PageQuery>,
) -> Answer<Page<CredentialView>> {
    let all = state.ask(|hub| async move { Ok(hub.store.view().await?.credentials().await?) });
    let page = Page::of_all(all.await?, *query, |it| it.id.as_uuid(), |it| view(&it));
    Ok(web::Json(page))
}

/// Adds a login.
#[utoipa::path(post, path = "/api/v1/vmware-credentials", tag = "credentials",
    request_body = NewCredential, responses((status = 201, body = CredentialView)))]
pub(crate) async fn add(state: State, new: web::Json<NewCredential>) -> Response {
    let new = new.into_inner();
    let made = state.carry_out(|hub| async move {
        let now = hub.clock.now();
        let credential = Credential {
            id: CredentialId::from_uuid(hub.ids.new_id()),
            name: required("name", &new.name)?,
            vcenter_host: required("vcenter_host", &new.vcenter_host)?,
            username: required("username", &new.username)?,
            password: password(new.password)?,
            datacenter: datacenter(new.datacenter)?,
            created_at: now,
            updated_at: now,
        };
        let mut work = hub.store.begin().await?;
        work.insert_credential(&credential).await?;
        work.commit().await?;
        Ok(view(&credential))
    });
    let made = made.await?;
    Ok(created(&format!("/api/v1/vmware-credentials/{}", made.id), &made))
}

/// One login.
#[utoipa::path(get, path = "/api/v1/vmware-credentials/{id}", tag = "credentials",
    params(("id" = Uuid, Path)), responses((status = 200, body = CredentialView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<CredentialView> {
    let found = state
        .ask(|hub| async move { Ok(view(&find(hub.store.view().await?.as_mut(), &of).await?)) });
    found.await.map(web::Json)
}

/// Changes a login.
#[utoipa::path(put, path = "/api/v1/vmware-credentials/{id}", tag = "credentials",
    params(("id" = Uuid, Path)), request_body = ChangedCredential,
    responses((status = 200, body = CredentialView)))]
pub(crate) async fn change(
    state: State,
    of: web::Path<String>,
    changed: web::Json<ChangedCredential>,
) -> Answer<CredentialView> {
    let changed = changed.into_inner();
    let stored = state.carry_out(|hub| async move {
        let mut work = hub.store.begin().await?;
        let mut credential = find(work.as_mut(), &of).await?;
        credential.name = required("name", &changed.name)?;
        credential.vcenter_host = required("vcenter_host", &changed.vcenter_host)?;
        credential.username = required("username", &changed.username)?;
        credential.datacenter = datacenter(changed.datacenter)?;
        if let Some(new) = changed.password {
            credential.password = password(new)?;
        }
        credential.updated_at = hub.clock.now();
        work.update_credential(&credential).await?;
        work.commit().await?;
        Ok(view(&credential))
    });
    stored.await.map(web::Json)
}

/// Removes a login that no VM uses.
#[utoipa::path(delete, path = "/api/v1/vmware-credentials/{id}", tag = "credentials",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn remove(state: State, of: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let mut work = hub.store.begin().await?;
        let credential = find(work.as_mut(), &of).await?;
        work.delete_credential(credential.id).await?;
        Ok(work.commit().await?)
    });
    removed.await.map(|()| gone())
}

/// Really tries a login: the VMA logs in to the endpoint with it, and out again.
#[utoipa::path(post, path = "/api/v1/vmware-credentials/{id}/test", tag = "credentials",
    params(("id" = Uuid, Path)), request_body = CredentialTest,
    responses((status = 200, body = CredentialWorks)))]
pub(crate) async fn test(
    state: State,
    of: web::Path<String>,
    by: web::Json<CredentialTest>,
) -> Answer<CredentialWorks> {
    let tried = state.ask(|hub| async move {
        let mut view = hub.store.view().await?;
        let credential = find(view.as_mut(), &of).await?;
        let node_id = VmaNodeId::from_uuid(by.vma_node_id);
        let node: VmaNode = view
            .vma_node(node_id)
            .await?
            .ok_or_else(|| vma_nodes::not_found(&node_id.to_string()))?;
        drop(view);
        let Some(about) = hub.source.test_credential(&node, &credential).await? else {
            let detail = format!("VMA {} reads a folder, which uses no login", node.name);
            return Err(Problem::new(ErrorClass::Conflict, "credential/not-testable", detail));
        };
        let SourceAbout { product, version, build, api_type, instance_uuid } = about;
        Ok(CredentialWorks { ok: true, product, version, build, api_type, instance_uuid })
    });
    tried.await.map(web::Json)
}

async fn find(
    catalogue: &mut (impl Catalogue + ?Sized),
    text: &str,
) -> Result<Credential, Problem> {
    const CODE: &str = "credential/not-found";
    let credential = catalogue.credential(id(text, CODE, "credential")?).await?;
    credential.ok_or_else(|| Problem::not_found(CODE, "credential", text))
}

fn view(credential: &Credential) -> CredentialView {
    CredentialView {
        id: credential.id.as_uuid(),
        name: credential.name.clone(),
        vcenter_host: credential.vcenter_host.clone(),
        username: credential.username.clone(),
        datacenter: credential.datacenter.clone(),
        created_at: credential.created_at,
        updated_at: credential.updated_at,
    }
}

/// A text that must be given.
pub(super) fn required(field: &'static str, value: &str) -> Result<String, Problem> {
    text::required(field, value, MAX_TEXT)
        .map_err(|error| Problem::field(&format!("/{field}"), error))
}

fn datacenter(given: Option<String>) -> Result<Option<String>, Problem> {
    given.filter(|it| !it.trim().is_empty()).map(|it| required("datacenter", &it)).transpose()
}

/// A password keeps its white space: it may be part of it.
fn password(given: String) -> Result<SecretString, Problem> {
    let length = given.chars().count();
    if length == 0 || length > MAX_PASSWORD || given.contains('\0') {
        let detail = format!("it has between 1 and {MAX_PASSWORD} characters and no NUL");
        return Err(Problem::field("/password", detail));
    }
    Ok(given.into())
}
