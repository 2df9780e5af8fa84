//! The devices of a .vmx that matter here: disks and network adapters.

use std::collections::BTreeMap;

use super::dictionary::{Dictionary, VmxError};
use super::slot::{Bus, Slot};

/// The most network adapters that are listed; the hypervisor allows ten.
const MAX_ADAPTERS: u32 = 64;

/// A disk that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualDisk {
    /// Where.
    pub slot: Slot,
    /// The .vmdk it names, as written: relative to the VM's directory or absolute.
    pub file_name: String,
}

/// A network adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its number in the .vmx, from 0.
    pub number: u32,
    /// The port group, or the connection type where no port group is named.
    pub network: String,
    /// The MAC address; empty where none is recorded.
    pub mac_address: String,
    /// The model (`vmxnet3`); `pcnet32`, the hypervisor's default, where none is named.
    pub model: String,
}

/// The disks that are present, by key.
pub(super) fn disks(dictionary: &Dictionary) -> Result<Vec<VirtualDisk>, VmxError> {
    let mut found = BTreeMap::new();
    for key in dictionary.keys() {
        let Some(place) = key.strip_suffix(".filename") else { continue };
        if !Bus::ALL.iter().any(|bus| place.starts_with(bus.name())) || !place.contains(':') {
            continue;
        }
        let Some(file_name) = disk_file(dictionary, place) else { continue };
        let slot = Slot::parse(place).ok_or_else(|| VmxError::BadSlot(bounded(place)))?;
        let disk = VirtualDisk { slot, file_name };
        if let Some(other) = found.insert(slot.key(), disk) {
            return Err(VmxError::DuplicateDisk(other.slot.disk_id()));
        }
    }
    Ok(found.into_values().collect())
}

/// The file of the device at a place, where it is a disk and present.
fn disk_file(dictionary: &Dictionary, place: &str) -> Option<String> {
    let file_name = dictionary.text(&format!("{place}.filename"))?;
    let kind = dictionary.text(&format!("{place}.devicetype")).unwrap_or("disk");
    let is_disk = ["disk", "plaindisk", "rawdisk", "scsi-harddisk", "ata-harddisk"]
        .iter()
        .any(|it| kind.eq_ignore_ascii_case(it));
    let has_image = !dictionary.denies(&format!("{place}.present"))
        && !file_name.eq_ignore_ascii_case("emptyBackingString");
    (is_disk && has_image).then(|| file_name.to_owned())
}

/// The network adapters that are present, in order.
pub(super) fn adapters(dictionary: &Dictionary) -> Vec<Adapter> {
    (0..MAX_ADAPTERS).filter_map(|number| adapter(dictionary, number)).collect()
}

fn adapter(dictionary: &Dictionary, number: u32) -> Option<Adapter> {
    let text = |field: &str| dictionary.text(&format!("ethernet{number}.{field}"));
    text("present")?;
    if dictionary.denies(&format!("ethernet{number}.present")) {
        return None;
    }
    let is_static = text("addresstype").is_some_and(|it| it.eq_ignore_ascii_case("static"));
    let (first, second) =
        if is_static { ("address", "generatedaddress") } else { ("generatedaddress", "address") };
    let mac = text(first).or_else(|| text(second)).unwrap_or_default();
    Some(Adapter {
        number,
        network: text("networkname").or_else(|| text("connectiontype")).unwrap_or_default().into(),
        mac_address: mac.to_ascii_lowercase(),
        model: text("virtualdev").unwrap_or("pcnet32").to_owned(),
    })
}

/// The beginning of a name from a file, short enough for an error.
fn bounded(text: &str) -> String {
    text.chars().take(64).collect()
}
