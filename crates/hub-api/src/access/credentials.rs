//! Logins for vCenters and ESXi hosts; the password goes in and never comes back.

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::access::Credential;
use hub_domain::ids::CredentialId;
use hub_domain::limits::CopyCount;
use hub_domain::text::{self, MAX_TEXT};
use hub_ports::Catalogue;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::setting::{Whole, copies};
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
    /// Copies at a time from the vCenter or host, by whatever VMAs; null is without a limit of its own.
    max_concurrent_copies: Option<u32>,
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
    /// Copies at a time from the vCenter or host; without limit unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Whole>,
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

/// All logins.
#[utoipa::path(get, path = "/api/v1/vmware-credentials", tag = "credentials", params(PageQuery),
    responses((status = 200, body = Page<CredentialView>)))]
pub(crate) async fn list(
    state: State,
    query: web::Query<PageQuery>,
) -> Answer<Page<CredentialView>> {
    let all = state.ask(|hub| async move { Ok(hub.store.view().await?.credentials().await?) });
    let page = Page::of_all(all.await?, &query, |it| it.id.as_uuid(), |it| view(&it));
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
            copies: copies(new.max_concurrent_copies)?,
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

pub(super) async fn find(
    catalogue: &mut (impl Catalogue + ?Sized),
    text: &str,
) -> Result<Credential, Problem> {
    const CODE: &str = "credential/not-found";
    let credential = catalogue.credential(id(text, CODE, "credential")?).await?;
    credential.ok_or_else(|| Problem::not_found(CODE, "credential", text))
}

pub(super) fn view(credential: &Credential) -> CredentialView {
    CredentialView {
        id: credential.id.as_uuid(),
        name: credential.name.clone(),
        vcenter_host: credential.vcenter_host.clone(),
        username: credential.username.clone(),
        datacenter: credential.datacenter.clone(),
        max_concurrent_copies: credential.copies.map(CopyCount::get),
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
