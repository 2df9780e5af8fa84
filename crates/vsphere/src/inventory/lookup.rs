//! VMs by their id, without a look at all the others where the server has an index.

use roxmltree::Node;

use crate::client::Client;
use crate::element::Element as _;
use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::soap::{NoResult, Request};

/// VMs that are asked for nothing but their id at a time.
const IDS_AT_ONCE: usize = 1000;

/// VMs of one id that are told; two are one too many.
const MAX_FOUND: usize = 100;

impl Client {
    /// The VMs with an instance UUID: none, one, or, on a host with copied VMs, several.
    ///
    /// The server's index is asked; where there is none, all VMs are asked for their ids. An index may lag behind, so
    /// what it names is to be read, and its id compared.
    pub async fn vms_of_instance(&self, instance_uuid: &str) -> Result<Vec<MoRef>, VsphereError> {
        let Some(index) = &self.content().search_index else {
            return self.scan_for(instance_uuid).await;
        };
        let request = Request::read("FindAllByUuid", index)
            .text("uuid", instance_uuid)
            .text("vmSearch", "true")
            .text("instanceUuid", "true");
        match self.call(&request, found).await {
            Err(VsphereError::Fault { fault, .. }) if fault.is_missing_method() => {
                self.scan_for(instance_uuid).await
            }
            found => found,
        }
    }

    async fn scan_for(&self, instance_uuid: &str) -> Result<Vec<MoRef>, VsphereError> {
        let all = self.references(&["VirtualMachine"]).await?;
        let mut found = Vec::new();
        for batch in all.chunks(IDS_AT_ONCE) {
            let ids = self.properties("VirtualMachine", batch, &["config.instanceUuid"], |it| {
                Ok((it.moref.clone(), it.text("config.instanceUuid")))
            });
            let ids = ids.await?.into_iter();
            found.extend(ids.filter(|(_, id)| id.as_deref() == Some(instance_uuid)).map(|it| it.0));
        }
        Ok(found)
    }
}

/// The VMs that an index names; a host of that id is none of them.
fn found(response: Node<'_, '_>) -> Result<Vec<MoRef>, NoResult> {
    let all = response.children_named("returnval").take(MAX_FOUND);
    let named = all.map(|it| it.moref().ok_or_else(|| NoResult::garbled("it names no VM")));
    let mut named = named.collect::<Result<Vec<_>, _>>()?;
    named.retain(|it| it.kind == "VirtualMachine");
    Ok(named)
}
