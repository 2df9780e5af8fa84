//! Where a VM stands at one moment: asked anew where what was listed a minute ago is not enough.

use super::{SnapshotNode, snapshots};
use crate::client::Client;
use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::property::Object;
use crate::soap::NoResult;

/// What decides whether change tracking can be switched on, and whether it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Snapshots; the roots of their trees.
    pub snapshots: Vec<SnapshotNode>,
    /// Whether changes are tracked; unset counts as no.
    pub tracking_enabled: bool,
    /// Where it runs.
    pub host: Option<MoRef>,
}

const PATHS: [&str; 3] = ["snapshot", "config.changeTrackingEnabled", "runtime.host"];

const VERSION: &str = "config.product.version";
const BUILD: &str = "config.product.build";

/// The release that an ESXi host runs; a part is missing where the host does not tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRelease {
    /// `8.0.2`, for example.
    pub version: Option<String>,
    /// `22380479`, for example.
    pub build: Option<String>,
}

impl Client {
    /// Where a VM stands now; none where it does not exist, an error where any of it cannot be read.
    pub async fn standing(&self, vm: &MoRef) -> Result<Option<Standing>, VsphereError> {
        self.properties_of(vm, &PATHS, decode).await
    }

    /// The release of an ESXi host; none where there is no such host.
    pub async fn host_release(&self, host: &MoRef) -> Result<Option<HostRelease>, VsphereError> {
        self.properties_of(host, &[VERSION, BUILD], |it| {
            it.readable()?;
            Ok(HostRelease { version: it.text(VERSION), build: it.text(BUILD) })
        })
        .await
    }
}

fn decode(vm: &Object<'_, '_>) -> Result<Standing, NoResult> {
    vm.readable()?;
    Ok(Standing {
        snapshots: snapshots::trees_of(vm.value("snapshot")),
        tracking_enabled: vm.flag("config.changeTrackingEnabled").unwrap_or(false),
        host: vm.reference("runtime.host"),
    })
}
