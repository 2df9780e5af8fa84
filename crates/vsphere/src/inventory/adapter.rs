//! Network adapters, and what they are plugged into.

use roxmltree::Node;

use crate::element::Element as _;

/// One network adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Label (`Network adapter 1`).
    pub label: String,
    /// Model (`vmxnet3`).
    pub model: String,
    /// MAC address.
    pub mac_address: Option<String>,
    /// The network's own name, where the adapter holds it.
    pub network: Option<String>,
    /// The port group's key, or the id of an opaque network: [`Places`](super::Places) knows their names.
    pub network_key: Option<String>,
}

/// The network adapters among the devices of a VM.
pub(super) fn adapters_of(devices: Option<Node<'_, '_>>) -> Vec<Adapter> {
    let devices = devices.into_iter().flat_map(|it| it.children().filter(Node::is_element));
    devices.filter_map(decode).collect()
}

fn decode(device: Node<'_, '_>) -> Option<Adapter> {
    let kind = device.xsi_type()?;
    let model = match kind.as_str() {
        "VirtualVmxnet3" => "vmxnet3".to_owned(),
        "VirtualVmxnet3Vrdma" => "pvrdma".to_owned(),
        "VirtualVmxnet2" => "vmxnet2".to_owned(),
        "VirtualVmxnet" => "vmxnet".to_owned(),
        "VirtualE1000" => "e1000".to_owned(),
        "VirtualE1000e" => "e1000e".to_owned(),
        "VirtualPCNet32" => "pcnet32".to_owned(),
        "VirtualSriovEthernetCard" => "sriov".to_owned(),
        // A model of a later version still has a MAC address, which no other device has.
        _ if device.child("macAddress").is_some() => kind,
        _ => return None,
    };
    let backing = device.child("backing");
    let port = backing.and_then(|it| it.child("port"));
    let key = port.and_then(|it| it.text_of("portgroupKey"));
    Some(Adapter {
        label: label(device),
        model,
        mac_address: device.text_of("macAddress"),
        network: backing.and_then(|it| it.text_of("deviceName")),
        network_key: key.or_else(|| backing.and_then(|it| it.text_of("opaqueNetworkId"))),
    })
}

/// The label that people see.
pub(super) fn label(device: Node<'_, '_>) -> String {
    device.child("deviceInfo").and_then(|it| it.text_of("label")).unwrap_or_default()
}
