//! All VMs, or those of some names, page by page.

use std::collections::HashMap;

use hub_vma_api::{DiscoverFilter, DiscoverRequest, Inventory, Vcenter, Vm, Warning};
use hub_vsphere::{Client, Unreadable, VsphereError};

use super::Shared;

/// The VMs that are asked for, page by page.
pub(super) async fn list(
    shared: &Shared,
    client: &Client,
    request: &DiscoverRequest,
) -> Result<Inventory, VsphereError> {
    let places = client.places().await?;
    let filter = request.filter.clone().unwrap_or_default();
    let everything = filter.names.is_empty() && filter.ids.is_empty();
    let datacenter = request.datacenter.clone().unwrap_or_default();
    let (mut vms, mut unreadable) = (Vec::new(), Vec::new());
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut pages = client.list_vms().await?;
    while let Some(page) = pages.next_page().await? {
        for it in &page.vms {
            let vm = shared.told(it, &places);
            // Counted whether it is asked for or not: a copy that is asked for alone would be taken for the other.
            *times.entry(vm.id.clone()).or_default() += 1;
            let inside = datacenter.is_empty() || vm.datacenter.as_deref() == Some(&datacenter);
            let asked =
                everything || filter.names.contains(&vm.name) || filter.ids.contains(&vm.id);
            if inside && asked {
                vms.push(vm);
            }
        }
        unreadable.extend(page.unreadable);
    }
    if !everything {
        keep_asked(&mut unreadable, &filter, &vms, &times);
    }
    let (vms, doubles) = without_doubles(vms, &times);
    let unreadable = unreadable
        .into_iter()
        .map(|it| Warning { subject: it.name.unwrap_or(it.moref.value), detail: it.reason });
    let warnings = unreadable.chain(doubles).collect();
    let host = client.endpoint().authority();
    let instance_uuid = client.about().instance_uuid.clone();
    Ok(Inventory { vcenter: Vcenter { host, datacenter, instance_uuid }, vms, warnings })
}

/// Keeps the unreadable VMs that are asked for, and those that may be: one tells no id, and perhaps no name, so that
/// it may be whatever is asked for and was not found among the others.
fn keep_asked(
    unreadable: &mut Vec<Unreadable>,
    filter: &DiscoverFilter,
    found: &[Vm],
    times: &HashMap<String, usize>,
) {
    let lacks_id = filter.ids.iter().any(|id| !times.contains_key(id));
    let lacks_name = filter.names.iter().any(|name| found.iter().all(|vm| vm.name != *name));
    unreadable.retain(|it| {
        let named = it.name.as_ref().map_or(lacks_name, |name| filter.names.contains(name));
        named || lacks_id || filter.ids.contains(&it.moref.value)
    });
}

/// Leaves out every VM whose id another one has too: guessing could send one VM's bytes to the other's images.
fn without_doubles(vms: Vec<Vm>, times: &HashMap<String, usize>) -> (Vec<Vm>, Vec<Warning>) {
    let (kept, doubles): (Vec<_>, Vec<_>) =
        vms.into_iter().partition(|it| times.get(&it.id) == Some(&1));
    let warn = |it: Vm| Warning {
        detail: format!(
            "{}: another VM has the instance UUID {}, too, so neither is listed; one of them was copied by hand, give it another one",
            it.path, it.id
        ),
        subject: it.name,
    };
    (kept, doubles.into_iter().map(warn).collect())
}

#[cfg(test)]
mod tests {
    use hub_vsphere::MoRef;

    use super::*;

    #[test]
    fn a_discovery_of_some_names_tells_only_of_those_that_cannot_be_read() {
        let all = ["web", "db", ""].map(|name| Unreadable {
            moref: MoRef::vm(format!("vm-{name}")),
            name: (!name.is_empty()).then(|| name.to_owned()),
            reason: "it is a secret".to_owned(),
        });
        let left = |names: &[&str], ids: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
            let filter = DiscoverFilter { names: owned(names), ids: owned(ids) };
            let found = Vm { name: "found".to_owned(), ..Vm::default() };
            let times = HashMap::from([("id".to_owned(), 1)]);
            let mut unreadable = all.to_vec();
            keep_asked(&mut unreadable, &filter, &[found], &times);
            let morefs = unreadable.into_iter().map(|it| it.moref.value);
            morefs.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(left(&["found"], &[]), "");
        assert_eq!(left(&["db"], &[]), "vm-db vm-", "the nameless one may be it, too");
        assert_eq!(left(&["found", "lost"], &[]), "vm-");
        assert_eq!(left(&[], &["id"]), "");
        assert_eq!(left(&[], &["vm-web"]), "vm-web vm-db vm-", "none of them tells its id");
        assert_eq!(left(&["web"], &["id"]), "vm-web vm-");
    }
}
