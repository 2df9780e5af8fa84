//! The list of all entries, by the name of their fuzz target and corpus.

use anyhow::Result;

use crate::{files, network};

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its fuzz target and of the directory of its corpus.
    pub name: &'static str,
    /// Hands bytes to it; an error is one of the machine and says nothing about the bytes.
    pub run: fn(&[u8]) -> Result<()>,
}

/// Every entry.
pub const TARGETS: &[Target] = &[
    Target { name: "nbd_server", run: network::server },
    Target { name: "nbd_client", run: network::client },
    Target { name: "qcow2_image", run: files::image },
    Target { name: "manifest", run: files::manifest },
    #[cfg(feature = "vma")]
    Target { name: "vmdk_descriptor", run: files::vmdk_descriptor },
    #[cfg(feature = "vma")]
    Target { name: "vmdk_file", run: files::vmdk_file },
    #[cfg(feature = "vma")]
    Target { name: "vmx", run: files::vmx },
    #[cfg(feature = "vma")]
    Target { name: "vsphere_answer", run: network::vsphere_answer },
];
