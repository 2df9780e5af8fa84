//! Tries a login for real, and says what is wrong with it in a word of its own.

use actix_web::web;
use hub_domain::access::{Credential, VmaNode};
use hub_domain::ids::VmaNodeId;
use hub_domain::reader_choice::{SourceName, reader_of};
use hub_domain::source::SourceAbout;
use hub_ports::store::{note_source, readable};
use hub_ports::{Catalogue, ErrorClass};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{credentials, vma_nodes};
use crate::answer::{Answer, State};
use crate::problem::Problem;

/// Which VMA tries the login.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialTest {
    /// May be left out while one VMA is known to read the endpoint, or only one is registered.
    vma_node_id: Option<Uuid>,
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

/// Really tries a login: the VMA logs in to the endpoint with it, and out again.
#[utoipa::path(post, path = "/api/v1/vmware-credentials/{id}/test", tag = "credentials",
    params(("id" = Uuid, Path)), request_body = CredentialTest,
    responses((status = 200, body = CredentialWorks)))]
pub(crate) async fn test(
    state: State,
    of: web::Path<String>,
    by: web::Json<CredentialTest>,
) -> Answer<CredentialWorks> {
    let tried = state.carry_out(|hub| async move {
        let mut view = hub.store.view().await?;
        let credential = credentials::find(view.as_mut(), &of).await?;
        let node = node(view.as_mut(), &by, &credential).await?;
        drop(view);
        let tested = hub.source.test_credential(&node, &credential).await?;
        let Some(about) = tested else {
            let detail = format!("VMA {} reads a folder, which uses no login", node.name);
            return Err(Problem::new(ErrorClass::Conflict, "credential/not-testable", detail));
        };
        let SourceAbout { product, version, build, api_type, instance_uuid } = about;
        let found = SourceName { host: None, uuid: instance_uuid.clone() };
        note_source(hub.store.as_ref(), node.id, &found).await?;
        Ok(CredentialWorks { ok: true, product, version, build, api_type, instance_uuid })
    });
    tried.await.map(web::Json)
}

/// The VMA that is named, or one that reads the endpoint, or the only one.
async fn node(
    catalogue: &mut dyn Catalogue,
    by: &CredentialTest,
    credential: &Credential,
) -> Result<VmaNode, Problem> {
    if let Some(id) = by.vma_node_id {
        let found = catalogue.vma_node(VmaNodeId::from_uuid(id)).await?;
        return found.ok_or_else(|| vma_nodes::not_found(&id.to_string()));
    }
    let all = readable(catalogue.vma_nodes().await?);
    let only = if let [only] = all.as_slice() { Some(only) } else { None };
    let chosen = reader_of(&SourceName::of_login(credential), &all).or(only);
    chosen.cloned().ok_or_else(|| {
        let detail = format!(
            "no VMA is known to read {}; register one there, or say which one tries with vma_node_id",
            credential.vcenter_host
        );
        Problem::new(ErrorClass::Conflict, "credential/no-vma", detail)
    })
}
