//! A few VMs that are asked for by their ids: each is looked up, and ten thousand others are not read.

use hub_vma_api::{Inventory, Vcenter, Warning};
use hub_vsphere::Client;

use super::Shared;
use crate::source::SourceError;

/// More than these are found faster by listing all.
pub(super) const FEW: usize = 20;

impl Shared {
    /// Those of the ids that are VMs here; one that cannot be read, or that two have, becomes a warning.
    pub(super) async fn list_asked(
        &self,
        client: &Client,
        datacenter: &str,
        ids: &[String],
    ) -> Result<Inventory, SourceError> {
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        for id in ids {
            match self.find(client, id).await {
                Ok(vm) => found.push(vm),
                Err(SourceError::VmNotFound(_)) => (),
                // By the id that was asked for, whatever the VM is called by now: it is there, and cannot be read.
                Err(error @ (SourceError::BadVm { .. } | SourceError::VmAmbiguous { .. })) => {
                    warnings.push(Warning { subject: id.clone(), detail: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        let places = client.places_of(&found).await.map_err(|error| super::of_call(&error))?;
        let mut vms: Vec<_> = found.iter().map(|it| self.told(it, &places)).collect();
        vms.retain(|it| datacenter.is_empty() || it.datacenter.as_deref() == Some(datacenter));
        let host = client.endpoint().authority();
        let instance_uuid = client.about().instance_uuid.clone();
        let vcenter = Vcenter { host, datacenter: datacenter.to_owned(), instance_uuid };
        Ok(Inventory { vcenter, vms, warnings })
    }
}
