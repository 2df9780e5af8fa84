//! Disks of a VM or of a snapshot.

use std::collections::HashMap;

use roxmltree::Node;

use super::adapter::label;
use super::controller::{Controller, controllers_of};
use crate::element::Element as _;
use crate::moref::MoRef;

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The device's key: unique in one VM at one time.
    pub key: i32,
    /// Label (`Hard disk 1`).
    pub label: String,
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// What it hangs on.
    pub controller: Option<Controller>,
    /// Unit on its controller.
    pub unit: Option<u32>,
    /// Where its bytes are.
    pub backing: Backing,
    /// Bytes that its files take, where the server knows.
    pub used_bytes: Option<u64>,
}

/// Where the bytes of a disk are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its kind.
    pub kind: BackingKind,
    /// Datastore path (`[store] web/web.vmdk`).
    pub file_name: String,
    /// The datastore's reference.
    pub datastore: Option<MoRef>,
    /// UUID of the content; it stays when the disk gets another key.
    pub uuid: Option<String>,
    /// Mark for changed areas; opaque.
    pub change_id: Option<String>,
    /// `persistent`, `independent_persistent` and others.
    pub mode: Option<String>,
    /// `sharingNone` or `sharingMultiWriter`.
    pub sharing: Option<String>,
    /// Thin or thick, where the server says.
    pub thin: Option<bool>,
    /// Whether a thick disk was zeroed when it was made.
    pub eager: Option<bool>,
    /// File that it is a delta of.
    pub parent: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

impl Backing {
    /// Name of the datastore.
    pub fn datastore_name(&self) -> Option<&str> {
        Some(self.file_name.strip_prefix('[')?.split_once(']')?.0)
    }

    /// Whether snapshots leave it out.
    pub fn is_independent(&self) -> bool {
        self.mode.as_deref().is_some_and(|it| it.starts_with("independent"))
    }
}

/// Kinds of backings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackingKind {
    /// An extent of its size (`FlatVer2`).
    Flat,
    /// Grains (`SparseVer2`).
    Sparse,
    /// Grains of later versions (`SeSparse`).
    SeSparse,
    /// A raw device, spoken to directly.
    RawPhysical,
    /// A raw device behind the hypervisor.
    RawVirtual,
    /// What this version does not know, by its name.
    Other(String),
}

/// The disks among the devices of a VM; one without a size is a reason to refuse the VM.
pub(crate) fn disks_of(devices: Option<Node<'_, '_>>) -> Result<Vec<Disk>, String> {
    let Some(devices) = devices else { return Ok(Vec::new()) };
    let controllers = controllers_of(devices);
    let disks = devices.children().filter(Node::is_element);
    disks
        .filter(|it| it.xsi_type().as_deref() == Some("VirtualDisk"))
        .map(|it| decode(it, &controllers))
        .collect()
}

fn decode(device: Node<'_, '_>, controllers: &HashMap<i32, Controller>) -> Result<Disk, String> {
    let label = label(device);
    let key = device.number_of("key").ok_or_else(|| format!("disk `{label}` has no key"))?;
    let wrong = || format!("disk `{label}` has no capacity");
    let bytes = device.number_of::<u64>("capacityInBytes").filter(|it| *it > 0);
    // Servers of old say kibibytes only.
    let kibibytes = || device.number_of::<u64>("capacityInKB")?.checked_mul(1024);
    let capacity_bytes = bytes.or_else(kibibytes).filter(|it| *it > 0).ok_or_else(wrong)?;
    let controller = device.number_of::<i32>("controllerKey");
    let controller = controller.and_then(|key| controllers.get(&key)).cloned();
    let backing = device.child("backing").map(backing);
    let backing = backing.ok_or_else(|| format!("disk `{label}` has no backing"))?;
    let unit = device.number_of("unitNumber");
    Ok(Disk { key, label, capacity_bytes, controller, unit, backing, used_bytes: None })
}

fn backing(node: Node<'_, '_>) -> Backing {
    let kind = node.xsi_type().unwrap_or_default();
    let physical = node.text_of("compatibilityMode").as_deref() != Some("virtualMode");
    let kind = match kind.as_str() {
        "VirtualDiskFlatVer1BackingInfo" | "VirtualDiskFlatVer2BackingInfo" => BackingKind::Flat,
        "VirtualDiskSparseVer1BackingInfo" | "VirtualDiskSparseVer2BackingInfo" => {
            BackingKind::Sparse
        }
        "VirtualDiskSeSparseBackingInfo" => BackingKind::SeSparse,
        "VirtualDiskRawDiskMappingVer1BackingInfo" if !physical => BackingKind::RawVirtual,
        "VirtualDiskRawDiskMappingVer1BackingInfo" | "VirtualDiskRawDiskVer2BackingInfo" => {
            BackingKind::RawPhysical
        }
        _ => BackingKind::Other(kind),
    };
    Backing {
        kind,
        file_name: node.text_of("fileName").unwrap_or_default(),
        datastore: node.moref_of("datastore"),
        uuid: node.text_of("uuid"),
        change_id: node.text_of("changeId"),
        mode: node.text_of("diskMode"),
        sharing: node.text_of("sharing"),
        thin: node.flag_of("thinProvisioned"),
        eager: node.flag_of("eagerlyScrub"),
        parent: node.child("parent").map(|it| it.text_of("fileName").unwrap_or_default()),
        encrypted: node.child("keyId").is_some(),
    }
}

/// Adds what the files of each disk take, all its deltas together.
pub(super) fn add_used_bytes(
    disks: &mut [Disk],
    layout: Option<Node<'_, '_>>,
    files: Option<Node<'_, '_>>,
) {
    let (Some(layout), Some(files)) = (layout, files) else { return };
    let sizes: HashMap<i32, u64> = files
        .children()
        .filter(Node::is_element)
        .filter_map(|it| Some((it.number_of("key")?, it.number_of("size")?)))
        .collect();
    let mut of_disks: HashMap<i32, Node<'_, '_>> = HashMap::new();
    for it in layout.children().filter(Node::is_element) {
        if let Some(key) = it.number_of("key") {
            of_disks.entry(key).or_insert(it);
        }
    }
    for disk in disks {
        // Taken, and not looked up: a hundred thousand disks of one key would all add up the same files.
        let Some(own) = of_disks.remove(&disk.key) else { continue };
        let keys = own.children_named("chain").flat_map(|it| it.children_named("fileKey"));
        let keys = keys.filter_map(|it| it.text()?.trim().parse::<i32>().ok());
        let known: Option<Vec<u64>> = keys.map(|it| sizes.get(&it).copied()).collect();
        disk.used_bytes = known
            .filter(|it| !it.is_empty())
            .and_then(|it| it.into_iter().try_fold(0_u64, u64::checked_add));
    }
}
