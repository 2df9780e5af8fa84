//! The disks of a VM at one instant: those of one snapshot.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hub_block::BlockDevice;
use hub_vma_api::{Lie, SnapshotReport};
use hub_vsphere::{BadAreas, Client, Disk};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::fault::of_call;
use super::held::Held;
use super::host_budget::{Host, Place};
use super::ledger::{Owed, snapshot_name};
use super::plan::{Planned, asked_disk};
use super::reader::FrozenDisk;
use super::track_record::{Look, TrackRecord};
use super::tracking::{self, Ground};
use super::turns::Turn;
use super::{Shared, change_mark, listing};
use crate::source::{Caught, Changed, OpenDisk, OpenRequest, Snapshot, SourceError};

/// What a job waits for, where only the server knows for how long.
pub(super) const LOGGING_IN: &str =
    "waits for the vCenter or host, which is asked to let the VMA in";
pub(super) const LOOKING_UP: &str = "waits for the vCenter or host, which is asked about the VM";
const TAKING: &str = "waits for the vCenter or host, which takes the snapshot of the VM";
const ASKING: &str = "waits for the vCenter or host, which is asked what has changed";
const OPENING: &str = "waits for the host, which opens a disk";

/// All asked disks of one VM, in one snapshot.
pub(super) struct VsphereSnapshot {
    shared: Arc<Shared>,
    job_id: String,
    /// The place at the host that was there before the snapshot; for the first disk that is read.
    place: Mutex<Option<Place>>,
    /// Keeps the session, which nobody else uses while a disk is read.
    alive: JoinSet<()>,
    held: Held,
    client: Arc<Client>,
    planned: Planned,
    /// The disks as the snapshot has them, and what their changed areas rest on, in the order asked.
    described: Vec<(Disk, Ground)>,
    disks: Vec<OpenDisk>,
}

/// Takes the snapshot of a job and opens its disks.
pub(super) async fn open(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    request: &OpenRequest,
    turn: Turn,
) -> Result<VsphereSnapshot, SourceError> {
    let _waiting = shared.waits.say(&request.job_id, LOOKING_UP);
    // Leftovers on this VM would stand below the new snapshot, and what a hub had cleaned up may be of this very job.
    drop(shared.clearing.turn(&request.vm_id, &request.job_id, &shared.waits).await?);
    shared.sweep(client, |it| it.vm_id == request.vm_id).await;
    shared.sweep_beside(client);
    let (planned, place) = with_place(shared, client, request).await?;
    shared.check_leftover(&planned)?;
    let vm = &planned.vm;
    let owed = Owed {
        job_id: request.job_id.clone(),
        source: shared.source(client),
        vm_id: request.vm_id.clone(),
        vm: vm.moref.value.clone(),
        name: snapshot_name(&request.job_id),
    };
    let of_this_job = vm.snapshots.iter().flat_map(hub_vsphere::SnapshotNode::all);
    if of_this_job.into_iter().any(|it| it.name == owed.name) {
        // A record that was lost is made good, so that it is owed whatever ends this.
        shared.owe(&owed).await?;
        shared.ledger.let_go(&owed.job_id);
        shared.settle(client, &owed).await?;
    }
    let look = Look { tracked: vm.tracking_enabled, grown: request.grown(), ..Look::default() };
    let known = shared.track_record(client, &request.vm_id);
    let prepared = tracking::prepare(shared, client, vm, &known.after(&vm.disks, &look)).await;
    let quiesce = request.quiesce.unwrap_or(shared.options.quiesce);
    let taking = shared.waits.say(&request.job_id, TAKING);
    let held = Held::take(shared, client, owed, quiesce, turn).await?;
    drop(taking);
    let (ground, beside) = tracking::ground(client, &planned, held.snapshot(), &prepared).await;
    // What was switched on a moment ago counts, too, where that could not be undone.
    let look = Look { beside, tracked: look.tracked || prepared.beside, ..look };
    let scene = Scene { ground, known, look, refused: prepared.refused };
    match describe(shared, client, &planned, &held, request, scene).await {
        Ok((described, disks)) => {
            let (shared, client) = (shared.clone(), client.clone());
            let alive = kept_alive(client.clone(), shared.options.keep_alive);
            let (job_id, place) = (request.job_id.clone(), Mutex::new(Some(place)));
            Ok(VsphereSnapshot {
                shared,
                job_id,
                place,
                alive,
                held,
                client,
                planned,
                described,
                disks,
            })
        }
        Err(error) => {
            // Its removal may have to wait, and others may read meanwhile.
            drop(place);
            if let Err(left) = held.remove().await {
                tracing::warn!(error = %left, "a snapshot that is of no use could not be removed");
            }
            Err(error)
        }
    }
}

/// Plans with a place at the VM's host: a snapshot that waits for its first reader would only grow.
async fn with_place(
    shared: &Shared,
    client: &Client,
    request: &OpenRequest,
) -> Result<(Planned, Place), SourceError> {
    let mut planned = shared.plan(client, request).await?;
    loop {
        let host = Host::of(&planned.vm);
        // Its own snapshot would have to wait there in the end, and grow meanwhile.
        let at_once = shared.removals.pass(&host, &request.job_id).await?;
        let place = shared.budget.place(&host, &request.job_id).await?;
        if at_once && place.at_once {
            return Ok((planned, place));
        }
        // Much may have changed since, the host too.
        planned = shared.plan(client, request).await?;
        if Host::of(&planned.vm) == place.host {
            return Ok((planned, place));
        }
    }
}

/// Uses a session from time to time, until this is dropped.
fn kept_alive(client: Arc<Client>, every: Duration) -> JoinSet<()> {
    let mut alive = JoinSet::new();
    alive.spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            // The next call of the job logs in again, or says why it cannot.
            if let Err(error) = client.keep_alive().await {
                tracing::warn!(error = %error, "the session could not be kept");
            }
        }
    });
    alive
}

/// What is known of a VM's change tracking when its snapshot is there.
struct Scene {
    /// What its changed areas rest on.
    ground: Ground,
    /// What was known of its disks' tracking.
    known: TrackRecord,
    /// What they are looked at with.
    look: Look,
    /// Why tracking could not be switched on.
    refused: Option<String>,
}

async fn describe(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    planned: &Planned,
    held: &Held,
    request: &OpenRequest,
    scene: Scene,
) -> Result<(Vec<(Disk, Ground)>, Vec<OpenDisk>), SourceError> {
    let found = client.snapshot_disks(held.snapshot()).await.map_err(|error| of_call(&error))?;
    let found = found.ok_or_else(|| SourceError::ChangedWhileReading {
        key: request.disks.first().map(|it| it.key.clone()).unwrap_or_default(),
    })?;
    // Before anything of it is believed or told, so that no later run believes what this one doubts.
    let known = scene.known.after(&found, &scene.look);
    shared.keep_track(&known).await?;
    let (mut described, mut disks) = (Vec::new(), Vec::new());
    for asked in &request.disks {
        let disk = asked_disk(&planned.vm, &found, asked)?;
        shared.check_disk(disk, &planned.places)?;
        let ground = tracking::ground_of(shared, &scene.ground, disk, &known);
        let build = ground.as_ref().ok();
        let mark = build.and_then(|it| change_mark::mark(client.about(), &planned.vm, disk, it));
        let no_mark = ground.as_ref().err().or(scene.refused.as_ref()).cloned();
        disks.push(OpenDisk {
            key: asked.key.clone(),
            no_mark: no_mark.filter(|_| mark.is_none()),
            change_id: mark,
            read_by: Some(shared.reader.read_by()),
        });
        described.push((disk.clone(), ground));
    }
    Ok((described, disks))
}

#[async_trait]
impl Snapshot for VsphereSnapshot {
    fn disks(&self) -> &[OpenDisk] {
        &self.disks
    }

    async fn reader(&self, disk: usize) -> Result<Arc<dyn BlockDevice>, SourceError> {
        let Some((disk, _)) = self.described.get(disk) else {
            return Err(SourceError::Internal("there is no such disk".to_owned()));
        };
        let spare = self.place.lock().take();
        let mut place = match spare {
            Some(place) => place,
            None => {
                let host = Host::of(&self.planned.vm);
                self.shared.budget.place(&host, &self.job_id).await?
            }
        };
        place.reading = Some(self.held.reading().await);
        let frozen = FrozenDisk {
            client: self.client.clone(),
            datacenter: self.planned.datacenter.clone(),
            vm: self.planned.vm.moref.clone(),
            snapshot: self.held.snapshot().clone(),
            disk: disk.clone(),
        };
        let _waiting = self.shared.waits.say(&self.job_id, OPENING);
        self.shared.reader.open(&frozen, place).await
    }

    async fn changed_since(&self, disk: usize, change_id: &str) -> Changed {
        let Some((disk, ground)) = self.described.get(disk) else {
            return Changed::Unknown("there is no such disk".to_owned());
        };
        let build = match ground {
            Ok(build) => build,
            Err(why) => return Changed::Unknown(why.clone()),
        };
        let _waiting = self.shared.waits.say(&self.job_id, ASKING);
        let vm = &self.planned.vm;
        let since = match change_mark::since(self.client.about(), vm, disk, build, change_id) {
            Ok(since) => since,
            Err(why) => return Changed::Unknown(why),
        };
        let (vm, snapshot) = (&vm.moref, self.held.snapshot());
        match self.client.changed_areas(vm, snapshot, disk, since).await {
            Ok(Ok(areas)) => Changed::Areas(areas),
            Ok(Err(slow @ BadAreas::TooSlow(_))) => {
                Changed::Unknown(format!("{slow}, which is source.changed_areas_seconds"))
            }
            Ok(Err(bad)) => Changed::Unknown(bad.to_string()),
            Err(error) => {
                Changed::Unknown(format!("the server does not say what has changed: {error}"))
            }
        }
    }

    /// A snapshot that somebody removed meanwhile has left its file to the running VM.
    async fn check_unchanged(&self, disk: usize) -> Result<(), SourceError> {
        let Some((known, _)) = self.described.get(disk) else {
            return Err(SourceError::Internal("there is no such disk".to_owned()));
        };
        let now = self.client.snapshot_disks(self.held.snapshot()).await;
        let now = now.map_err(|error| of_call(&error))?.unwrap_or_default();
        if now.iter().any(|it| it == known) {
            return Ok(());
        }
        Err(SourceError::ChangedWhileReading { key: listing::disk_id(known) })
    }

    async fn distrust(&self, disk: usize, caught: &Caught) {
        let Some((disk, _)) = self.described.get(disk) else { return };
        let vm_id = listing::id(&self.planned.vm);
        if let Err(error) = self.shared.distrust(&self.client, vm_id, disk, caught).await {
            tracing::error!(
                vm.id = vm_id, why = caught.why, error = %error,
                "that change tracking is not to be believed could not be written down: start it anew by hand"
            );
        }
    }

    fn caught(&self, disk: usize, change_id: &str) -> Option<Lie> {
        let (disk, _) = self.described.get(disk)?;
        let known = self.shared.track_record(&self.client, listing::id(&self.planned.vm));
        known.caught(disk, change_id).cloned()
    }

    fn report(&self) -> Option<SnapshotReport> {
        Some(self.held.report())
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let Self { held, client, alive, place, .. } = *self;
        drop(place);
        let removed = held.remove().await;
        drop(alive);
        if removed.is_ok() {
            drop(client.log_out().await);
        }
        removed
    }
}
