//! Where a disk is plugged in, and the hypervisor's key that follows from it.

use std::fmt;

/// A kind of disk controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bus {
    /// `scsi`, paravirtual ones included.
    Scsi,
    /// `ide`.
    Ide,
    /// `sata`.
    Sata,
    /// `nvme`.
    Nvme,
}

impl Bus {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Scsi, Self::Ide, Self::Sata, Self::Nvme];

    /// The prefix in a .vmx.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scsi => "scsi",
            Self::Ide => "ide",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
        }
    }

    /// Controllers and units that exist, as `(controllers, units)`.
    const fn limits(self) -> (u32, u32) {
        match self {
            Self::Scsi | Self::Nvme => (4, 64),
            Self::Ide => (2, 2),
            Self::Sata => (4, 30),
        }
    }
}

/// A place on a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    bus: Bus,
    controller: u32,
    unit: u32,
}

impl Slot {
    /// A place that its bus has; nothing for others.
    pub const fn new(bus: Bus, controller: u32, unit: u32) -> Option<Self> {
        let (controllers, units) = bus.limits();
        if controller < controllers && unit < units {
            Some(Self { bus, controller, unit })
        } else {
            None
        }
    }

    /// Reads `scsi0:1` (lower case).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bus = Bus::ALL.into_iter().find(|bus| text.starts_with(bus.name()))?;
        let (controller, unit) = text.strip_prefix(bus.name())?.split_once(':')?;
        Self::new(bus, small_number(controller)?, small_number(unit)?)
    }

    /// The hypervisor's device key, as vSphere numbers disks; unique within a VM (trap C5).
    ///
    /// SCSI is 2000 + 16 × controller + unit, IDE 3000 + 2 × controller + unit, SATA 16000 + 30 × controller + unit and
    /// NVMe 32000 + 64 × controller + unit.
    /// SCSI units from 16 on, which only paravirtual controllers have, would meet the next controller's keys in that
    /// rule; they follow after 2064.
    pub const fn key(self) -> u32 {
        match self.bus {
            Bus::Scsi if self.unit < 16 => 2000 + 16 * self.controller + self.unit,
            Bus::Scsi => 2064 + 48 * self.controller + (self.unit - 16),
            Bus::Ide => 3000 + 2 * self.controller + self.unit,
            Bus::Sata => 16_000 + 30 * self.controller + self.unit,
            Bus::Nvme => 32_000 + 64 * self.controller + self.unit,
        }
    }

    /// The key as the wire spells it (`disk-2000`).
    pub fn disk_id(self) -> String {
        format!("disk-{}", self.key())
    }

    /// The controller (`scsi0`).
    pub fn controller(self) -> String {
        format!("{}{}", self.bus.name(), self.controller)
    }

    /// The unit on the controller.
    pub const fn unit(self) -> u32 {
        self.unit
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}:{}", self.bus.name(), self.controller, self.unit)
    }
}

/// A number of one or two digits without sign and leading zeroes, so that one place has one spelling.
fn small_number(text: &str) -> Option<u32> {
    let plain = matches!(text.len(), 1 | 2) && text.bytes().all(|it| it.is_ascii_digit());
    if !plain || (text.len() == 2 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}
