//! Pre-flight: what of a VM and its disks speaks against a backup, how much, and what to do about it.
//!
//! Pure over what the source said last. What a source does not say raises no concern: a datastore folder knows no
//! snapshots of a hypervisor, and its disks are read as they lie.

mod concern;
#[cfg(test)]
mod tests;

pub use concern::{About, Concern, ConcernKind, Effect, Severity};

use crate::disk::{DiskFacts, DiskKey};
use crate::remarks::Warning;
use crate::vm::VmFacts;

/// The first hardware version whose changed blocks can be tracked.
const TRACKING_SINCE: u32 = 7;

/// How many snapshots are named.
const NAMED: usize = 3;

/// All concerns about a VM and its disks: the VM's first, then disk by disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// In the order found.
    pub concerns: Vec<Concern>,
}

impl Preflight {
    /// Looks at a VM with its present disks.
    pub fn of<'a>(vm: &VmFacts, disks: impl IntoIterator<Item = &'a DiskFacts>) -> Self {
        let disks: Vec<&DiskFacts> = disks.into_iter().collect();
        let mut found = Self::default();
        found.look_at_vm(vm, &disks);
        for disk in disks {
            found.look_at_disk(vm, disk);
        }
        found
    }

    /// Why nothing of the VM can be copied.
    pub fn vm_blocked(&self) -> Option<&Concern> {
        self.first(Effect::Blocked, |about| *about == About::Vm)
    }

    /// Why this disk cannot be copied, whatever becomes of the others.
    pub fn disk_blocked(&self, disk: &DiskKey) -> Option<&Concern> {
        self.first(Effect::Blocked, |about| about.is_disk(disk))
    }

    /// Why a mark that the source gave for this disk is not believed: changes may have gone unseen since.
    pub fn doubt(&self, disk: &DiskKey) -> Option<&Concern> {
        self.concerns.iter().find(|it| it.kind.hides_changes() && it.about.covers(disk))
    }

    /// Why this disk is read in full, and compared.
    pub fn full_read(&self, disk: &DiskKey) -> Option<&Concern> {
        self.first(Effect::FullRead, |about| about.covers(disk))
    }

    /// What somebody who copies these disks should know, though it keeps none of them from being copied.
    pub fn warnings<'a>(&self, disks: impl IntoIterator<Item = &'a DiskKey>) -> Vec<Warning> {
        let disks: Vec<&DiskKey> = disks.into_iter().collect();
        let of_these = |it: &&Concern| match &it.about {
            About::Vm => true,
            About::Disk(key) => disks.contains(&key),
        };
        let grave = self.concerns.iter().filter(|it| it.kind.severity() == Severity::Warning);
        grave.filter(of_these).map(|it| Warning::new(it.code(), it.sentence())).collect()
    }

    fn first(&self, effect: Effect, wanted: impl Fn(&About) -> bool) -> Option<&Concern> {
        self.concerns.iter().find(|it| it.effect() == effect && wanted(&it.about))
    }

    fn look_at_vm(&mut self, vm: &VmFacts, disks: &[&DiskFacts]) {
        use ConcernKind as Kind;
        let said = &vm.conditions;
        if said.template == Some(true) {
            self.about_vm(Kind::Template, "it is a template");
        }
        if said.encrypted == Some(true) {
            self.about_vm(Kind::Encrypted, "it is encrypted");
        }
        if let Some(state) = said.connection.as_deref().filter(|it| *it != "connected") {
            self.about_vm(Kind::HostDisconnected, format!("its host says that it is {state}"));
        }
        if let Some(why) = &said.refusal {
            self.about_vm(Kind::ReaderCannot, format!("it cannot be read: {why}"));
        }
        if disks.is_empty() {
            self.about_vm(Kind::NoDisks, "it has no disk");
        }
        let tolerance = said.fault_tolerance.as_deref();
        if let Some(state) = tolerance.filter(|it| !["notConfigured", "disabled"].contains(it)) {
            self.about_vm(Kind::FaultTolerance, format!("fault tolerance is {state}"));
        }
        if said.consolidation_needed == Some(true) {
            self.about_vm(
                Kind::ConsolidationNeeded,
                "deltas of removed snapshots wait to be merged",
            );
        }
        if let Some(names) = snapshots(vm) {
            let kind = match (said.reads_snapshots, said.tracking_enabled) {
                (Some(false), _) => Kind::SnapshotsForbidReading,
                (_, Some(true)) => Kind::SnapshotsExist,
                _ => Kind::SnapshotsForbidTracking,
            };
            self.about_vm(kind, format!("it has snapshots already: {names}"));
        }
        if let Some(tools) = tools_that_cannot(vm) {
            self.about_vm(Kind::CannotQuiesce, format!("the tools in its guest are {tools}"));
        }
        let asked = said.tracking_supported.is_some() || said.tracking_enabled.is_some();
        if let Some(number) = said.hardware_number().filter(|it| asked && *it < TRACKING_SINCE) {
            self.about_vm(Kind::HardwareVersion, format!("its hardware version is {number}"));
        } else if said.tracking_supported == Some(false) {
            self.about_vm(Kind::TrackingNotSupported, "its changed blocks cannot be tracked");
        } else if said.tracking_enabled == Some(false) {
            self.about_vm(Kind::TrackingOff, "its changed blocks are not tracked");
        }
    }

    fn look_at_disk(&mut self, vm: &VmFacts, disk: &DiskFacts) {
        use ConcernKind as Kind;
        let said = &disk.conditions;
        let mut about = |kind, detail: String| {
            self.concerns.push(Concern { kind, about: About::Disk(disk.key.clone()), detail });
        };
        let key = &disk.key;
        let mut blocked = false;
        match said.mode.as_deref() {
            Some(mode) if mode.starts_with("independent") => {
                about(Kind::IndependentDisk, format!("disk {key} is {mode}"));
                blocked = true;
            }
            Some(mode @ ("nonpersistent" | "undoable" | "append")) => {
                about(Kind::NonpersistentDisk, format!("disk {key} is {mode}"));
                blocked = true;
            }
            Some(_) | None => (),
        }
        match said.rdm.as_deref() {
            Some("physical") => {
                about(Kind::PhysicalRdm, format!("disk {key} is a physical raw device mapping"));
                blocked = true;
            }
            Some("virtual") if said.refusal.is_none() => {
                about(Kind::VirtualRdm, format!("disk {key} is a virtual raw device mapping"));
            }
            Some(_) | None => (),
        }
        if let Some(sharing) = said.sharing.as_deref().filter(|it| *it != "none") {
            about(Kind::SharedDisk, format!("disk {key} is shared with other VMs ({sharing})"));
            blocked = true;
        }
        if let Some(why) = said.refusal.as_deref().filter(|_| !blocked) {
            let by = said.reader.as_deref().unwrap_or("its source");
            about(Kind::ReaderCannot, format!("disk {key} cannot be read by {by}: {why}"));
            blocked = true;
        }
        let tracked = vm.conditions.tracking_enabled == Some(true);
        if tracked && !blocked && said.has_change_id == Some(false) {
            about(Kind::TrackingNotActive, format!("changes of disk {key} are not tracked yet"));
        }
    }

    fn about_vm(&mut self, kind: ConcernKind, detail: impl Into<String>) {
        self.concerns.push(Concern { kind, about: About::Vm, detail: detail.into() });
    }
}

/// The state of tools that cannot bring a guest to rest, where it is to come to rest.
fn tools_that_cannot(vm: &VmFacts) -> Option<&'static str> {
    let said = &vm.conditions;
    // A guest that does not run is at rest.
    let runs = vm.power_state.as_deref() == Some("poweredOn");
    if said.quiesced != Some(true) || !runs {
        return None;
    }
    let idle = said.tools.as_deref() == Some("guestToolsNotRunning");
    idle.then_some("not running, or not installed")
}

/// The names of the first snapshots that are not ours, and how many more there are.
///
/// One that a job of ours has taken raises no concern: it goes with its job, the next job waits for that, and who
/// heeded a word of removing it would end a backup that is at work.
fn snapshots(vm: &VmFacts) -> Option<String> {
    let all: Vec<_> =
        vm.conditions.snapshots.iter().flatten().filter(|it| !it.is_of_a_job()).collect();
    if all.is_empty() {
        return None;
    }
    let mut names: Vec<String> = all.iter().take(NAMED).map(|it| it.name.clone()).collect();
    if all.len() > NAMED {
        names.push(format!("{} more", all.len() - NAMED));
    }
    Some(names.join(", "))
}
