//! Names of what is around VMs: folders, datacenters, networks, hosts.

use std::collections::{BTreeSet, HashMap};

use super::{Adapter, Vm};
use crate::client::Client;
use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::property::references;

/// Folders nest less than this; a longer way up is a circle.
const MAX_DEPTH: usize = 64;

/// More networks than a VM has adapters.
const MAX_NETWORKS: usize = 1000;

/// The kinds that have names of interest.
const KINDS: [&str; 8] = [
    "Folder",
    "Datacenter",
    "VirtualApp",
    "HostSystem",
    "Network",
    "DistributedVirtualPortgroup",
    "OpaqueNetwork",
    "Datastore",
];

/// What is around VMs, by reference.
#[derive(Clone, Debug, Default)]
pub struct Places {
    by_moref: HashMap<MoRef, Place>,
    networks: HashMap<String, String>,
    datastore_types: HashMap<MoRef, String>,
}

#[derive(Clone, Debug)]
struct Place {
    name: String,
    parent: Option<MoRef>,
}

impl Places {
    /// The name of a folder, a datacenter, a host or a network.
    pub fn name(&self, moref: &MoRef) -> Option<&str> {
        self.by_moref.get(moref).map(|it| it.name.as_str())
    }

    /// Inventory path of a VM (`/DC0/vm/linux/web`).
    pub fn path(&self, vm: &Vm) -> String {
        let mut parts = vec![vm.name.as_str()];
        parts.extend(self.above(vm.parent.as_ref()).map(|(_, it)| it.name.as_str()));
        parts.reverse();
        format!("/{}", parts.join("/"))
    }

    /// The datacenter of a VM: its name, for people.
    pub fn datacenter<'a>(&'a self, vm: &'a Vm) -> Option<&'a str> {
        let mut above = self.above(vm.parent.as_ref());
        above.find(|(moref, _)| moref.kind == "Datacenter").map(|(_, it)| it.name.as_str())
    }

    /// The datacenter of a VM: its path without a slash before it, as datastore files are asked for.
    pub fn datacenter_path(&self, vm: &Vm) -> Option<String> {
        let above = self.above(vm.parent.as_ref());
        let from: Vec<_> = above.skip_while(|(moref, _)| moref.kind != "Datacenter").collect();
        if from.is_empty() {
            return None;
        }
        let names: Vec<_> = from.iter().rev().map(|(_, it)| it.name.as_str()).collect();
        Some(names.join("/"))
    }

    /// The real name of the network that an adapter is plugged into.
    pub fn network<'a>(&'a self, adapter: &'a Adapter) -> Option<&'a str> {
        let by_key = adapter.network_key.as_ref().and_then(|key| self.networks.get(key));
        by_key.map(String::as_str).or(adapter.network.as_deref())
    }

    /// The kind of a datastore (`VMFS`, `NFS`, `vsan`, `VVOL`), where the account sees it.
    pub fn datastore_type(&self, datastore: &MoRef) -> Option<&str> {
        self.datastore_types.get(datastore).map(String::as_str)
    }

    /// Upwards from a place, the nameless root left out.
    fn above<'a>(
        &'a self,
        from: Option<&'a MoRef>,
    ) -> impl Iterator<Item = (&'a MoRef, &'a Place)> {
        let known = |moref: &'a MoRef| self.by_moref.get(moref).map(|it| (moref, it));
        let up = std::iter::successors(from.and_then(known), move |(_, it)| {
            it.parent.as_ref().and_then(known)
        });
        up.take(MAX_DEPTH)
    }
}

impl Client {
    /// Asks for what is around VMs.
    pub async fn places(&self) -> Result<Places, VsphereError> {
        let all = ["Folder", "Datacenter", "VirtualApp", "HostSystem", "Network", "Datastore"];
        let all = self.references(&all);
        let mut places = Places::default();
        self.add_of_kinds(&mut places, &all.await?.into_iter().collect()).await?;
        Ok(places)
    }

    /// Asks only for what is above one VM, and for the datastores of its disks.
    pub async fn places_above(&self, vm: &Vm) -> Result<Places, VsphereError> {
        let mut places = Places::default();
        self.add_above(&mut places, vm.parent.iter().cloned().collect()).await?;
        self.add_of_kinds(&mut places, &stores_of(std::slice::from_ref(vm))).await?;
        Ok(places)
    }

    /// Asks only for what is above these VMs, and for their networks and the datastores of their disks.
    pub async fn places_of(&self, vms: &[Vm]) -> Result<Places, VsphereError> {
        let mut places = Places::default();
        let those: Vec<_> = vms.iter().map(|it| it.moref.clone()).collect();
        let networks = self.properties("VirtualMachine", &those, &["network"], |it| {
            references(it.value("network"), MAX_NETWORKS)
        });
        let networks: BTreeSet<_> = match networks.await {
            // A VM that was deleted meanwhile; what is told of it is of before.
            Err(VsphereError::NotFound(_)) => BTreeSet::new(),
            networks => networks?.into_iter().flatten().collect(),
        };
        self.add_of_kinds(&mut places, &networks).await?;
        self.add_of_kinds(&mut places, &stores_of(vms)).await?;
        self.add_above(&mut places, vms.iter().filter_map(|it| it.parent.clone()).collect())
            .await?;
        Ok(places)
    }

    /// Adds places and what is above them, a floor at a time.
    async fn add_above(
        &self,
        places: &mut Places,
        mut floor: BTreeSet<MoRef>,
    ) -> Result<(), VsphereError> {
        for _ in 0..MAX_DEPTH {
            floor.remove(&self.content().root_folder);
            floor.retain(|it| !places.by_moref.contains_key(it));
            if floor.is_empty() {
                break;
            }
            self.add_of_kinds(places, &floor).await?;
            let parent = |it: &MoRef| places.by_moref.get(it).and_then(|it| it.parent.clone());
            floor = floor.iter().filter_map(parent).collect();
        }
        Ok(())
    }

    async fn add_of_kinds(
        &self,
        places: &mut Places,
        all: &BTreeSet<MoRef>,
    ) -> Result<(), VsphereError> {
        for kind in KINDS {
            let of_kind: Vec<_> = all.iter().filter(|it| it.kind == kind).cloned().collect();
            for batch in of_kind.chunks(self.options().page.max(1)) {
                self.add_places(places, kind, batch).await?;
            }
        }
        Ok(())
    }

    async fn add_places(
        &self,
        places: &mut Places,
        kind: &'static str,
        batch: &[MoRef],
    ) -> Result<(), VsphereError> {
        let paths: &[&str] = match kind {
            "DistributedVirtualPortgroup" => &["name", "key"],
            "OpaqueNetwork" => &["name", "summary.opaqueNetworkId"],
            "Datastore" => &["summary.type"],
            "VirtualApp" => &["name", "parent", "parentFolder"],
            "Folder" | "Datacenter" | "HostSystem" => &["name", "parent"],
            _ => &["name"],
        };
        let described = self.properties(kind, batch, paths, |it| {
            let folder = it.reference("parentFolder").or_else(|| it.reference("parent"));
            let key = it.text("key").or_else(|| it.text("summary.opaqueNetworkId"));
            Ok((it.moref.clone(), it.text("name"), folder, key, it.text("summary.type")))
        });
        for (moref, name, parent, key, store_type) in described.await? {
            if let Some(it) = store_type {
                places.datastore_types.insert(moref.clone(), it);
            }
            let Some(name) = name.map(|it| unescaped(&it)) else { continue };
            if let Some(key) = key {
                places.networks.insert(key, name.clone());
            }
            places.by_moref.insert(moref, Place { name, parent });
        }
        Ok(())
    }
}

/// The datastores that the disks of some VMs lie on.
fn stores_of(vms: &[Vm]) -> BTreeSet<MoRef> {
    let disks = vms.iter().flat_map(|it| &it.disks);
    disks.filter_map(|it| it.backing.datastore.clone()).collect()
}

/// Names of inventory objects come with `%`, `/` and `\` as `%25`, `%2f` and `%5c`.
pub(super) fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (code, plain) = match after.get(..2) {
            Some("25") => (2, "%"),
            Some("2f" | "2F") => (2, "/"),
            Some("5c" | "5C") => (2, "\\"),
            _ => (0, "%"),
        };
        out.push_str(plain);
        rest = after.get(code..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
