//! The .vmx file: what a VM is, read without trusting a byte of it.

mod device;
mod dictionary;
mod slot;
#[cfg(test)]
mod tests;

pub use device::{Adapter, VirtualDisk};
pub use dictionary::VmxError;
pub use slot::{Bus, Slot};

use dictionary::Dictionary;

/// The largest .vmx that is read, in bytes; real ones have a few KiB.
pub const MAX_VMX_LEN: u64 = 1 << 20;

/// What a .vmx says about its VM, as far as discovery needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmx {
    /// `displayName`, where given and not empty.
    pub display_name: Option<String>,
    /// `guestOS`.
    pub guest_os: Option<String>,
    /// `numvcpus`; 1 where absent, as the hypervisor takes it.
    pub num_cpu: u32,
    /// `memSize` in MiB; 32 where absent, as the hypervisor takes it.
    pub memory_mb: u64,
    /// `virtualHW.version` as `vmx-<n>`.
    pub hardware_version: Option<String>,
    /// `uuid.bios`, or else `vc.uuid`, in the usual notation and lower case.
    pub uuid: Option<String>,
    /// `checkpoint.vmState`: the file that holds a suspended VM's memory.
    pub suspend_file: Option<String>,
    /// The disks that are present, in the order of their keys.
    pub disks: Vec<VirtualDisk>,
    /// The network adapters that are present, in order of their numbers.
    pub adapters: Vec<Adapter>,
}

impl Vmx {
    /// Parses the bytes of a .vmx file.
    pub fn parse(bytes: &[u8]) -> Result<Self, VmxError> {
        let dictionary = Dictionary::parse(bytes)?;
        let text = |key: &str| dictionary.text(key).map(str::to_owned);
        Ok(Self {
            display_name: text("displayname"),
            guest_os: text("guestos"),
            num_cpu: dictionary.number("numvcpus")?.unwrap_or(1),
            memory_mb: dictionary.number("memsize")?.unwrap_or(32),
            hardware_version: text("virtualhw.version").map(|version| format!("vmx-{version}")),
            uuid: ["uuid.bios", "vc.uuid"]
                .into_iter()
                .find_map(|key| dictionary.text(key).and_then(normal_uuid)),
            suspend_file: text("checkpoint.vmstate"),
            disks: device::disks(&dictionary)?,
            adapters: device::adapters(&dictionary),
        })
    }
}

/// Turns VMware's `56 4d 01 … -08 …` into `564d01…`, grouped 8-4-4-4-12; nothing for what is no UUID.
fn normal_uuid(raw: &str) -> Option<String> {
    let digits: String = raw.chars().filter(|it| !matches!(it, ' ' | '-')).collect();
    let valid = digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if !valid || digits.bytes().all(|it| it == b'0') {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    let group = |from: usize, to: usize| digits.get(from..to);
    let groups = [group(0, 8)?, group(8, 12)?, group(12, 16)?, group(16, 20)?, group(20, 32)?];
    Some(groups.join("-"))
}
