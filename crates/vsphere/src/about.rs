//! What a server says of itself, and the objects that calls are made on.

use roxmltree::Node;

use crate::element::Element as _;
use crate::moref::MoRef;
use crate::soap::NoResult;

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Full name of the product.
    pub product: String,
    /// `VirtualCenter` or `HostAgent`.
    pub api_type: String,
    /// `8.0.2`, for example.
    pub version: String,
    /// `22617221`, for example.
    pub build: String,
    /// The vCenter's own id; an ESXi host has none.
    pub instance_uuid: Option<String>,
}

impl About {
    /// Whether it is a standalone host.
    pub fn is_host(&self) -> bool {
        self.api_type == "HostAgent"
    }
}

/// The singletons of a server that calls are made on.
#[derive(Clone, Debug)]
pub(crate) struct ServiceContent {
    pub(crate) about: About,
    pub(crate) root_folder: MoRef,
    pub(crate) property_collector: MoRef,
    pub(crate) view_manager: MoRef,
    pub(crate) session_manager: MoRef,
    /// Where VMs are looked up by their id; not every server has one.
    pub(crate) search_index: Option<MoRef>,
}

impl ServiceContent {
    /// Decodes the answer of `RetrieveServiceContent`.
    pub(crate) fn decode(response: Node<'_, '_>) -> Result<Self, NoResult> {
        let content = response.child("returnval");
        let content = content.ok_or_else(|| NoResult::garbled("it has no content"))?;
        let part = |name: &str| {
            content.moref_of(name).ok_or_else(|| NoResult::Garbled(format!("it names no {name}")))
        };
        let about = content.child("about").ok_or_else(|| NoResult::garbled("it names no about"))?;
        let word = |name: &str| about.text_of(name).unwrap_or_default();
        Ok(Self {
            about: About {
                product: word("fullName"),
                api_type: word("apiType"),
                version: word("version"),
                build: word("build"),
                instance_uuid: about.text_of("instanceUuid"),
            },
            root_folder: part("rootFolder")?,
            property_collector: part("propertyCollector")?,
            view_manager: part("viewManager")?,
            session_manager: part("sessionManager")?,
            search_index: content.moref_of("searchIndex"),
        })
    }
}
