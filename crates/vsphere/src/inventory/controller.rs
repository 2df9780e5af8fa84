//! Controllers: what disks hang on.

use std::collections::HashMap;

use roxmltree::Node;

use crate::element::Element as _;

/// A controller of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its device key.
    pub key: i32,
    /// `scsi`, `sata`, `ide` or `nvme`.
    pub bus: &'static str,
    /// Which one of its kind.
    pub number: u32,
    /// How its bus is shared with other VMs: `noSharing`, `virtualSharing` or `physicalSharing`; SCSI only.
    pub sharing: Option<String>,
}

impl Controller {
    /// How a .vmx names it (`scsi0`).
    pub fn slot(&self) -> String {
        format!("{}{}", self.bus, self.number)
    }

    /// Whether other VMs may have the same disks.
    pub fn is_shared(&self) -> bool {
        self.sharing.as_deref().is_some_and(|it| it != "noSharing")
    }
}

/// The controllers among the devices of a VM, by their keys; of two with one key, the first.
pub(super) fn controllers_of(devices: Node<'_, '_>) -> HashMap<i32, Controller> {
    let mut all = HashMap::new();
    for it in devices.children().filter(Node::is_element).filter_map(decode) {
        all.entry(it.key).or_insert(it);
    }
    all
}

fn decode(device: Node<'_, '_>) -> Option<Controller> {
    let kind = device.xsi_type()?;
    let bus = match kind.as_str() {
        "ParaVirtualSCSIController"
        | "VirtualLsiLogicController"
        | "VirtualLsiLogicSASController"
        | "VirtualBusLogicController"
        | "VirtualSCSIController" => "scsi",
        "VirtualAHCIController" | "VirtualSATAController" => "sata",
        "VirtualIDEController" => "ide",
        "VirtualNVMEController" => "nvme",
        _ => return None,
    };
    Some(Controller {
        key: device.number_of("key")?,
        bus,
        number: device.number_of("busNumber").unwrap_or(0),
        sharing: device.text_of("sharedBus"),
    })
}
