//! Faults that the server names.

use std::fmt;

use roxmltree::Node;

use crate::element::Element as _;

/// Characters of the server's own words that are kept.
const MAX_MESSAGE: usize = 500;

/// What to do about a fault that nothing more is known of.
const LOOK: &str = "look at the recent tasks and events of the VM in the client of vSphere";

/// A fault by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodFault {
    /// `InvalidArgument`, for example.
    pub kind: String,
    /// What the server says to people.
    pub message: String,
    /// The privilege that is missing, of `NoPermission`.
    pub privilege: Option<String>,
    /// The object that is meant, where the fault has one.
    pub object: Option<String>,
    /// The argument that is wrong, of `InvalidArgument`.
    pub property: Option<String>,
}

impl MethodFault {
    /// Decodes an element whose `xsi:type` is the fault's name.
    pub(crate) fn decode(node: Node<'_, '_>, message: Option<&str>) -> Self {
        let kind = node.xsi_type().or_else(|| {
            // A fault without a type is named by its element.
            let name = node.tag_name().name();
            name.strip_suffix("Fault").map(|it| it.chars().take(MAX_MESSAGE).collect())
        });
        let object = node.moref_of("object").or_else(|| node.moref_of("obj"));
        Self {
            kind: kind.unwrap_or_else(|| "unnamed fault".to_owned()),
            message: message.unwrap_or_default().chars().take(MAX_MESSAGE).collect(),
            privilege: node.text_of("privilegeId"),
            object: object.map(|it| it.to_string()),
            property: node.text_of("invalidProperty"),
        }
    }

    /// Decodes a `LocalizedMethodFault`: a fault, and words for people beside it.
    pub(crate) fn decode_localized(node: Node<'_, '_>) -> Option<Self> {
        let message = node.child("localizedMessage").and_then(|it| it.text());
        node.child("fault").map(|it| Self::decode(it, message))
    }

    /// Whether the session has ended.
    pub fn is_not_authenticated(&self) -> bool {
        self.kind == "NotAuthenticated"
    }

    /// Whether the guest could not be brought to rest for a snapshot.
    pub fn is_quiesce(&self) -> bool {
        matches!(self.kind.as_str(), "ApplicationQuiesceFault" | "FilesystemQuiesceFault")
            || self.kind == "ToolsUnavailable"
    }

    /// Whether it may be just the way to the host that failed, while the host goes on with what it was told.
    pub fn is_of_way_to_host(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "HostCommunication" | "HostNotConnected" | "HostNotReachable" | "Timedout"
        ) || self.kind == "SystemError"
    }

    /// Whether the server does not offer the method at all.
    pub fn is_missing_method(&self) -> bool {
        matches!(self.kind.as_str(), "MethodNotFound" | "NotSupported" | "NotImplemented")
    }

    /// What to do, where there is something to do.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.kind.as_str() {
            "TaskInProgress" => "another task works on the VM; run again when it has ended",
            "InvalidPowerState" => "the VM is in a power state that forbids this",
            "InvalidState" => "the VM is in a state that forbids this; look at its recent tasks",
            "NoDiskSpace" | "InsufficientResourcesFault" => {
                "make room on the datastore, or remove old snapshots"
            }
            "SnapshotFault" | "TooManySnapshotLevels" => "consolidate or remove old snapshots",
            "ApplicationQuiesceFault" | "FilesystemQuiesceFault" | "ToolsUnavailable" => {
                "look at VMware Tools in the guest, or back up without quiescing"
            }
            "HostCommunication" | "HostNotConnected" | "HostNotReachable" => {
                "connect the VM's host to its vCenter again"
            }
            _ if self.is_missing_method() => "this server does not offer it",
            "RestrictedVersion" => "the licence of this host does not allow it",
            "MethodDisabled" => "another product has disabled it for this VM",
            _ => return None,
        })
    }
}

impl fmt::Display for MethodFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.kind)?;
        if let Some(property) = &self.property {
            write!(out, " ({property})")?;
        }
        if !self.message.is_empty() {
            write!(out, ": {}", self.message.trim_end_matches('.'))?;
        }
        write!(out, "; {}", self.remedy().unwrap_or(LOOK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_as_short_as_an_error_is_whatever_it_is_called() {
        let name = "x".repeat(1 << 20);
        let xml = format!("<{name}Fault><faultstring>y</faultstring></{name}Fault>");
        let document = crate::soap::parse(&xml).unwrap();
        let fault = MethodFault::decode(document.root_element(), Some(&name));
        assert!(fault.to_string().len() < 2000);
    }
}
