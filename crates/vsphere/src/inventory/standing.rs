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

const BUILD: &str = "config.product.build";

impl Client {
    /// Where a VM stands now; none where it does not exist, an error where any of it cannot be read.
    pub async fn standing(&self, vm: &MoRef) -> Result<Option<Standing>, VsphereError> {
        self.properties_of(vm, &PATHS, decode).await
    }

    /// The build of an ESXi host; none where the host does not tell it.
    pub async fn host_build(&self, host: &MoRef) -> Result<Option<String>, VsphereError> {
        let told = self.properties_of(host, &[BUILD], |it| {
            it.readable()?;
            Ok(it.text(BUILD))
        });
        Ok(told.await?.flatten())
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
