//! How a VM would be read, told together with it: what would fail a job is to be known before one is asked for.

use hub_vma_api::Vm;
use hub_vsphere::{Disk, Places};

use super::{Shared, listing, plan};
use crate::source::SourceError;

impl Shared {
    /// A VM as discovery shows it, with what the reader that there is makes of it.
    pub(super) fn told(&self, vm: &hub_vsphere::Vm, places: &Places) -> Vm {
        let mut told = listing::vm(vm, places);
        let datacenter = places.datacenter_path(vm);
        told.quiesced = Some(self.options.quiesce);
        told.reads_snapshots = Some(self.reader.reads_chains());
        told.refusal = match self.reader.check(vm, datacenter.as_deref()) {
            Ok(()) => None,
            Err(SourceError::BadVm { reason, .. }) => Some(reason),
            Err(error) => Some(error.to_string()),
        };
        for (shown, disk) in told.disks.iter_mut().zip(&vm.disks) {
            shown.reader = Some(self.reader.read_by().name.to_owned());
            shown.refusal = self.refusal(vm, disk, places).map(str::to_owned);
        }
        told
    }

    /// Why a disk cannot be read, although it could be otherwise.
    fn refusal(&self, vm: &hub_vsphere::Vm, disk: &Disk, places: &Places) -> Option<&'static str> {
        if plan::unreadable(disk).is_some() {
            return None;
        }
        let store = plan::datastore_type(places, disk);
        // A delta below a snapshot goes with it: ours by itself, and another's is told by its name.
        let passing = !vm.snapshots.is_empty() || self.ledger.owes_at(&vm.moref.value);
        if disk.backing.parent.is_none() || !passing {
            return self.reader.refuses(disk, store);
        }
        let mut alone = disk.clone();
        alone.backing.parent = None;
        self.reader.refuses(&alone, store)
    }
}
