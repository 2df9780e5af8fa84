//! Which VMA reads a VM: the one that it is linked to, as long as that reads the VM's source; else another that does.

use crate::access::{Credential, VmaNode};
use crate::ids::VmaNodeId;
use crate::vm::VmContext;

/// A vCenter or a host, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceName {
    /// Host name or address, with the port where it is not 443.
    pub host: Option<String>,
    /// Its own id, which it keeps under another host name.
    pub uuid: Option<String>,
}

impl SourceName {
    /// The source of a VM.
    pub fn of_vm(vm: &VmContext) -> Self {
        let host = Some(vm.facts.vcenter_host.clone()).filter(|it| !it.is_empty());
        Self { host, uuid: vm.facts.vcenter_uuid.clone() }
    }

    /// The source that a login is for.
    pub fn of_login(credential: &Credential) -> Self {
        Self { host: Some(credential.vcenter_host.clone()), uuid: None }
    }

    /// Whether both are one: by their ids where both are known, else by their addresses; `None` where nothing can be
    /// compared.
    pub fn is(&self, other: &Self) -> Option<bool> {
        let same = |one: &Option<String>, other: &Option<String>, plain: fn(&str) -> String| {
            Some(plain(one.as_deref()?) == plain(other.as_deref()?))
        };
        same(&self.uuid, &other.uuid, |it| it.trim().to_ascii_lowercase())
            .or_else(|| same(&self.host, &other.host, plain_address))
    }

    /// The same for a name that may be an id or an address.
    pub fn is_called(&self, name: &str) -> Option<bool> {
        let name = Some(name.to_owned());
        let by_uuid = self.is(&Self { uuid: name.clone(), host: None });
        let by_host = self.is(&Self { host: name, uuid: None });
        match (by_uuid, by_host) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            (None | Some(false), None | Some(false)) => None,
        }
    }

    /// What is known after a VMA has named its endpoint: another address may be another source, so the id of the old
    /// one is forgotten.
    #[must_use]
    pub fn at(self, host: Option<String>) -> Self {
        let moved = match (&self.host, &host) {
            (Some(old), Some(new)) => plain_address(old) != plain_address(new),
            (None, _) | (_, None) => false,
        };
        let uuid = if moved { None } else { self.uuid };
        Self { host: host.or(self.host), uuid }
    }
}

/// An address as it is compared: `https://VC.example.com:443/sdk` and `vc.example.com` are one.
fn plain_address(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("https://").unwrap_or(&text);
    let text = text.split('/').next().unwrap_or_default();
    text.strip_suffix(":443").unwrap_or(text).to_owned()
}

/// Why no VMA can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReader {
    /// None is registered that the VM could be read through.
    #[error(
        "no registered VMA reads {source_name}; register one there, or add the VM again through one that does"
    )]
    None {
        /// The source.
        source_name: String,
    },
    /// The VM's own reads another source by now, and nobody else reads the VM's.
    #[error(
        "VMA {vma} reads {reads} and the VM is at {source_name}; register a VMA there, or add the VM again"
    )]
    Elsewhere {
        /// The VM's own VMA.
        vma: String,
        /// What it reads.
        reads: String,
        /// Where the VM is.
        source_name: String,
    },
}

/// Chooses the VMA that a VM is read through, from what is stored of both.
///
/// The VM's own wins, because it was chosen when the VM was added; one that is known to read another source does not
/// count. Of others that read the VM's source the first by name is taken. A VM of an older catalogue names none: while
/// there is only one, that one is meant.
pub fn choose_reader<'a>(vm: &VmContext, nodes: &'a [VmaNode]) -> Result<&'a VmaNode, NoReader> {
    let wanted = SourceName::of_vm(vm);
    let elsewhere =
        |node: &VmaNode| node.takes_snapshots() && node.source.is(&wanted) == Some(false);
    let own = nodes.iter().find(|node| Some(node.id) == vm.vma_node);
    if let Some(own) = own.filter(|node| !elsewhere(node)) {
        return Ok(own);
    }
    if let Some(other) = reader_of(&wanted, nodes) {
        return Ok(other);
    }
    let source_name = vm.facts.vcenter_host.clone();
    match (own, nodes) {
        (Some(own), _) => {
            let (reads, source_name) = told_apart(&own.source, &wanted);
            Err(NoReader::Elsewhere { vma: own.name.clone(), reads, source_name })
        }
        (None, [only]) if vm.vma_node.is_none() && !elsewhere(only) => Ok(only),
        (None, _) => Err(NoReader::None { source_name }),
    }
}

/// Two sources by their addresses; with their ids where one address has had two, as that of a vCenter which was installed
/// anew.
fn told_apart(one: &SourceName, other: &SourceName) -> (String, String) {
    let host = |it: &SourceName| it.host.clone().unwrap_or_default();
    let same = one.host.as_deref().map(plain_address) == other.host.as_deref().map(plain_address);
    let name = |it: &SourceName| match &it.uuid {
        Some(uuid) if same => format!("{} with the id {uuid}", host(it)),
        _ => host(it),
    };
    (name(one), name(other))
}

/// Who may read a VM, the first choice first.
#[derive(Clone, Debug)]
pub struct Readers<'a> {
    first: &'a VmaNode,
    others: Vec<&'a VmaNode>,
}

/// The VMAs that a VM may be read through: what [`choose_reader`] says, and those that could stand in for it because they
/// are known to read the same vCenter or host, by name. One that the VM's login cannot be given to does not count.
///
/// `ordered` is the VMA that an order of this run may have reached already. While it is registered it is the only one,
/// unless it is known to read another source: it may be at work behind a network that is cut, and no VM is ever copied by
/// two VMAs for one run.
pub fn readers<'a>(
    vm: &VmContext,
    login: Option<&Credential>,
    nodes: &'a [VmaNode],
    ordered: Option<VmaNodeId>,
) -> Result<Readers<'a>, NoReader> {
    let wanted = SourceName::of_vm(vm);
    let holds = |node: &&VmaNode| {
        Some(node.id) == ordered
            && !(node.takes_snapshots() && node.source.is(&wanted) == Some(false))
    };
    if let Some(first) = nodes.iter().find(holds) {
        return Ok(Readers { first, others: Vec::new() });
    }
    let first = choose_reader(vm, nodes)?;
    let lets_in =
        |node: &VmaNode| login.is_none_or(|it| login_at(it, node, nodes, Some(vm)).is_some());
    let stands_in = |node: &&VmaNode| node.id != first.id && reads(node, &wanted) && lets_in(node);
    let mut others: Vec<&VmaNode> =
        if first.takes_snapshots() { nodes.iter().filter(stands_in).collect() } else { Vec::new() };
    others.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Readers { first, others })
}

impl<'a> Readers<'a> {
    /// The one that reads the VM as long as it answers, and when nobody answers: it then says itself what is wrong.
    pub fn first(&self) -> &'a VmaNode {
        self.first
    }

    /// Whether there is anything to choose, and so a reason to ask who answers.
    pub fn is_choice(&self) -> bool {
        !self.others.is_empty()
    }

    /// The one to be asked next whether it answers, when these did not; nothing when nobody is left.
    pub fn next(&self, silent: &[VmaNodeId]) -> Option<&'a VmaNode> {
        let mut all = [self.first].into_iter().chain(self.others.iter().copied());
        all.find(|node| !silent.contains(&node.id))
    }
}

/// Why a VM is read through another VMA than its own, in a sentence; nothing where it is not, or where it names none.
///
/// `silent` says how the own one did not answer.
pub fn stand_in(
    vm: &VmContext,
    nodes: &[VmaNode],
    chosen: &VmaNode,
    silent: Option<&str>,
) -> Option<String> {
    let own = vm.vma_node.filter(|own| *own != chosen.id)?;
    let name = &chosen.name;
    let why = match (nodes.iter().find(|node| node.id == own), silent) {
        (Some(own), Some(silent)) => format!("VMA {} does not answer ({silent})", own.name),
        (Some(own), None) => {
            format!(
                "VMA {} reads {}",
                own.name,
                own.source.host.as_deref().unwrap_or("another source")
            )
        }
        (None, _) => "the VMA that the VM was added with is not registered any more".to_owned(),
    };
    Some(format!("{why}; VMA {name} reads the source of the VM, too, and copied in its place"))
}

/// A login as it is given to a VMA: a VMA takes a password for the address that it is set up with, and for no other.
///
/// Where that is another one than the login's, the login is given under it only if both are known to be one vCenter by its
/// id: that of the VMA, and what other VMAs and the VM say of the login's address. `None` where they are not, since a
/// password goes to nobody else.
pub fn login_at(
    login: &Credential,
    node: &VmaNode,
    nodes: &[VmaNode],
    vm: Option<&VmContext>,
) -> Option<Credential> {
    let Some(host) = &node.source.host else { return Some(login.clone()) };
    let meant = plain_address(&login.vcenter_host);
    if plain_address(host) == meant {
        return Some(login.clone());
    }
    let here = SourceName { host: None, uuid: node.source.uuid.clone() };
    let of_nodes = nodes.iter().filter(|it| it.takes_snapshots()).map(|it| it.source.clone());
    let mut is_known = false;
    for name in of_nodes.chain(vm.map(SourceName::of_vm)) {
        if name.host.as_deref().map(plain_address).as_ref() != Some(&meant) {
            continue;
        }
        match name.is(&here) {
            Some(true) => is_known = true,
            Some(false) => return None,
            None => (),
        }
    }
    is_known.then(|| Credential { vcenter_host: host.clone(), ..login.clone() })
}

fn reads(node: &VmaNode, wanted: &SourceName) -> bool {
    node.takes_snapshots() && node.source.is(wanted) == Some(true)
}

/// The first VMA by name that is known to read a vCenter or host.
pub fn reader_of<'a>(wanted: &SourceName, nodes: &'a [VmaNode]) -> Option<&'a VmaNode> {
    nodes.iter().filter(|node| reads(node, wanted)).min_by(|one, other| one.name.cmp(&other.name))
}

#[cfg(test)]
mod tests;
