//! What tests tell the peer: how VMs look, which areas have changed, what goes wrong.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Changes what it names of a VM, and nothing else.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VmShape {
    /// The VM's name.
    pub vm: String,
    /// A new name.
    pub name: Option<String>,
    /// Its id in the vCenter.
    pub instance_uuid: Option<String>,
    /// Whether it is a template.
    pub template: Option<bool>,
    /// Hardware version (`vmx-15`).
    pub version: Option<String>,
    /// Whether changes are tracked.
    pub tracking: Option<bool>,
    /// Whether they could be.
    pub tracking_supported: Option<bool>,
    /// Whether a consolidation is due.
    pub consolidation: Option<bool>,
    /// State of fault tolerance (`running`).
    pub fault_tolerance: Option<String>,
    /// Whether the VM is encrypted.
    pub encrypted: Option<bool>,
    /// `poweredOn`, `poweredOff` or `suspended`.
    pub power: Option<String>,
    /// `connected`, `disconnected`, `inaccessible` or `orphaned`.
    pub connection: Option<String>,
    /// State of the guest's tools (`guestToolsRunning`).
    pub tools: Option<String>,
    /// Kind of the datastores that it lies on (`vsan`); other VMs on them have it too.
    pub datastore_type: Option<String>,
    /// All its disks, in place of those it has.
    pub disks: Option<Vec<DiskShape>>,
}

/// One disk; its file is made with its capacity, as one long hole.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiskShape {
    /// The device's key (2000).
    pub key: i32,
    /// Unit on its controller.
    pub unit: i32,
    /// File beside the VM's own (`web.vmdk`).
    pub file: String,
    /// Bytes, a multiple of 1024.
    pub capacity: u64,
    /// UUID of the backing.
    pub uuid: String,
    /// Change id; `untracked` keeps the disk out of change tracking, `silent` lets it tell none in the next snapshot.
    pub change_id: String,
    /// Disk mode; `persistent` unless given.
    pub mode: String,
    /// `sharingMultiWriter`, for example.
    pub sharing: String,
    /// Thin or thick.
    pub thin: bool,
    /// File of the backing's parent, where it is a delta.
    pub parent: String,
    /// `physicalMode` or `virtualMode` makes it a raw device, independent unless a mode is given.
    pub rdm: String,
    /// `scsi0` unless given; `scsi1`, `sata0`.
    pub bus: String,
    /// Sharing of the bus; `noSharing` unless given.
    pub bus_sharing: String,
    /// Whether the disk is encrypted.
    pub encrypted: bool,
    /// `flat` unless given; `sparse`, `se_sparse`.
    pub format: String,
}

/// What became of a [`VmShape`].
#[derive(Clone, Debug, Deserialize)]
pub struct Shaped {
    /// The VM's managed object id.
    pub id: String,
    /// The files with the disks' bytes, in the order of the disks.
    #[serde(default, deserialize_with = "absent_is_empty")]
    pub files: Vec<PathBuf>,
}

fn absent_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// One scripted answer about changed areas; the last of a script is repeated.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AreaPage {
    /// Where it says that it begins.
    pub start: i64,
    /// How much it says that it covers.
    pub length: i64,
    /// Offset and length of each area.
    pub areas: Vec<(i64, i64)>,
    /// A fault in place of all that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

/// Something that goes wrong with calls of one method; `folder` stands for reads of datastore files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trouble {
    /// The method (`CreateSnapshot_Task`).
    pub method: String,
    /// `status`, `fault`, `task_fault`, `stuck`, `delay`, `hold` (until calls may go on) or `cut`; for `folder` also
    /// `short` and `whole`.
    pub kind: String,
    /// A status code, the name of a fault, or milliseconds.
    pub value: String,
    /// So many calls pass first.
    pub skip: u32,
    /// How often it happens then; 0 is for ever.
    pub times: u32,
    /// Only calls whose body, or whose path, has this text.
    #[serde(rename = "where")]
    pub containing: String,
}

impl Trouble {
    /// Trouble that happens once.
    pub fn once(method: &str, kind: &str, value: &str) -> Self {
        Self {
            method: method.to_owned(),
            kind: kind.to_owned(),
            value: value.to_owned(),
            times: 1,
            ..Self::default()
        }
    }
}
