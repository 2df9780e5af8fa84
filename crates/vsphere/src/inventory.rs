//! The inventory: VMs page by page, so that memory does not grow with their number.

mod adapter;
mod controller;
mod disk;
mod lookup;
mod places;
mod snapshots;
mod standing;
#[cfg(test)]
mod tests;
mod vm;

pub use adapter::Adapter;
pub use controller::Controller;
pub(crate) use disk::disks_of;
pub use disk::{Backing, BackingKind, Disk};
pub use places::Places;
pub use snapshots::SnapshotNode;
pub use standing::{HostRelease, Standing};
pub use vm::{Unreadable, VM_PROPERTIES, Vm};

use crate::client::Client;
use crate::error::VsphereError;
use crate::moref::MoRef;

/// Reads any object as a VM, whatever comes of it.
pub(crate) fn read(object: &crate::property::Object<'_, '_>) {
    if let Ok(vm) = vm::decode(object) {
        let counted: usize = vm.snapshots.iter().map(|it| it.all().len()).sum();
        assert!(counted >= vm.snapshots.len(), "every root is one");
    }
}

/// Some VMs, and those that could not be described.
#[derive(Clone, Debug, Default)]
pub struct VmPage {
    /// VMs that could be read.
    pub vms: Vec<Vm>,
    /// The others, each with its reason.
    pub unreadable: Vec<Unreadable>,
}

/// The VMs of a server, handed out page by page.
#[derive(Debug)]
pub struct VmList<'c> {
    client: &'c Client,
    left: Vec<MoRef>,
}

impl VmList<'_> {
    /// How many VMs are left to hand out.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// The next page; none at the end. A VM that was deleted meanwhile is on no page.
    pub async fn next_page(&mut self) -> Result<Option<VmPage>, VsphereError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let page = self.client.options().page.max(1);
        let rest = self.left.split_off(page.min(self.left.len()));
        let batch = std::mem::replace(&mut self.left, rest);
        self.client.describe(&batch).await.map(Some)
    }
}

impl Client {
    /// All VMs, templates included.
    pub async fn list_vms(&self) -> Result<VmList<'_>, VsphereError> {
        let left = self.references(&["VirtualMachine"]).await?;
        Ok(VmList { client: self, left })
    }

    /// One VM; none where it does not exist.
    pub async fn vm(&self, vm: &MoRef) -> Result<Option<Result<Vm, Unreadable>>, VsphereError> {
        self.properties_of(vm, &VM_PROPERTIES, |it| Ok(vm::decode(it))).await
    }

    async fn describe(&self, batch: &[MoRef]) -> Result<VmPage, VsphereError> {
        let described =
            self.properties("VirtualMachine", batch, &VM_PROPERTIES, |it| Ok(vm::decode(it)));
        let described = match described.await {
            // Servers that do not know how to report a missing object fail its whole batch.
            Err(VsphereError::NotFound(_)) if batch.len() > 1 => {
                let mut all = Vec::with_capacity(batch.len());
                for it in batch {
                    all.extend(self.vm(it).await?);
                }
                all
            }
            Err(VsphereError::NotFound(_)) => Vec::new(),
            described => described?,
        };
        let mut page = VmPage::default();
        for it in described {
            match it {
                Ok(vm) => page.vms.push(vm),
                Err(unreadable) => page.unreadable.push(unreadable),
            }
        }
        Ok(page)
    }
}
