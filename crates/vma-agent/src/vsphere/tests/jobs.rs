//! Whole copy jobs: what they bring, what they wait for, and how they end when something is lost on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_block::MemoryDevice;
use hub_vma_api::{CopyRequest, CopyState};
use hub_vsphere_peer::{DiskLibrary, PeerOptions, Trouble, VmShape};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::lab::{CAPACITY, Lab, named};
use super::vddk;
use crate::doubles::{Hub, copying, ended, full_disk, memory, until};
use crate::jobs::{Jobs, JobsOptions};
use crate::source::{OpenRequest, Source as _};
use crate::vsphere::VsphereSource;

/// A hub, the jobs of a source, and the targets of each.
struct Copies {
    hub: Hub,
    jobs: Jobs,
    source: Arc<VsphereSource>,
    targets: BTreeMap<String, Arc<MemoryDevice>>,
}

impl Copies {
    /// Takes the source out of a lab, which keeps one without VDDK.
    async fn of(lab: &mut Lab) -> Result<Self> {
        let mut source = lab.over_https()?;
        std::mem::swap(&mut source, &mut lab.source);
        let source = Arc::new(source);
        let jobs = Jobs::new(source.clone(), JobsOptions::default(), CancellationToken::new());
        Ok(Self { hub: Hub::start().await?, jobs, source, targets: BTreeMap::new() })
    }

    async fn start(&mut self, opening: OpenRequest) -> Result<()> {
        let OpenRequest { job_id, vm_id, vcenter_uuid, credentials, disks: asked, quiesce } =
            opening;
        let mut disks = Vec::new();
        for asked in asked {
            let name = format!("{job_id}/{}", asked.key);
            let size = usize::try_from(CAPACITY)?;
            let device = memory(vec![0; size]);
            let target = self.hub.offer(&name, device.clone())?;
            disks.push(full_disk(&asked.key, size, target));
            self.targets.insert(name, device);
        }
        let bare = copying(&job_id, disks);
        let request = CopyRequest { vm_id, vcenter_uuid, credentials, quiesce, ..bare };
        self.jobs.start(request).await?;
        Ok(())
    }

    fn target(&self, name: &str) -> Vec<u8> {
        self.targets.get(name).map(|it| it.snapshot()).unwrap_or_default()
    }

    /// What a job that has ended says of its snapshot.
    fn left(&self, job_id: &str) -> Result<String> {
        let report = self.jobs.report(job_id).context("the job is known")?;
        Ok(report.snapshot.context("it says something")?.state)
    }

    /// Code and sentence of a job that failed.
    async fn fault(&self, job_id: &str) -> Result<(String, String)> {
        let report = ended(&self.jobs, job_id).await?;
        anyhow::ensure!(report.state == CopyState::Failed, "{report:?}");
        let fault = report.error.or_else(|| report.disks.into_iter().find_map(|it| it.error));
        Ok(fault.map(|it| (it.code, it.detail)).unwrap_or_default())
    }
}

/// A job whose disks are being read, and go on being read.
async fn reading() -> Result<Option<(Lab, DiskLibrary, Copies)>> {
    let Some((mut lab, library, orders)) = vddk::start().await? else { return Ok(None) };
    lab.write(0, 0, b"some bytes")?;
    library.script(&[vec!["hang read".to_owned()], orders].concat())?;
    let mut copies = Copies::of(&mut lab).await?;
    copies.start(lab.request("job")).await?;
    let reads = || library.calls().is_ok_and(|it| it.iter().any(|it| it.starts_with("read ")));
    until("a read is under way", reads).await?;
    Ok(Some((lab, library, copies)))
}

/// The most connections to hosts that there were at one moment.
fn at_once(calls: &[String]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for call in calls {
        if call.starts_with("connect ") {
            now += 1;
        } else if call == "disconnect" {
            now -= 1;
        }
        most = most.max(now);
    }
    most
}

#[tokio::test]
async fn at_most_so_many_disks_of_a_host_are_read_at_once_and_other_hosts_go_on() {
    let options = PeerOptions { vms: 2, ..PeerOptions::default() };
    let Some(mut lab) = Lab::start_with(options).await.unwrap() else { return };
    let Some(library) = DiskLibrary::make().unwrap() else { return };
    let one = lab.another("DC0_H0_VM0", 11).unwrap();
    let two = lab.another("DC0_H0_VM1", 12).unwrap();
    let mut orders = Vec::new();
    for (number, it) in [(1_u8, &one), (2, &two)] {
        for file in &it.files {
            std::fs::write(file, vec![number; usize::try_from(CAPACITY).unwrap()]).unwrap();
        }
        orders.extend(vddk::disks(&lab, &it.id, &it.files).await.unwrap());
    }
    library.script(&orders).unwrap();
    lab.read_through(vddk::options(&library)).unwrap();
    lab.bounded(1).unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();

    let holder = copies.source.open(&lab.request_of(&two.id, "holder")).await.unwrap();
    copies.start(lab.request_of(&one.id, "first")).await.unwrap();
    let waiting = || copies.jobs.report("first").and_then(|it| it.waiting);
    let told = || waiting().is_some_and(|it| it.contains("source.readers_per_host"));
    until("the job says that it waits for its host", told).await.unwrap();
    assert_eq!(copies.jobs.report("first").unwrap().state, CopyState::Queued);
    let names: Vec<_> = lab.peer.snapshots().unwrap().into_iter().map(|it| it.vm).collect();
    assert_eq!(names, std::slice::from_ref(&two.vm), "a job that waits has no snapshot");
    let elsewhere = copies.source.open(&lab.request("elsewhere")).await.unwrap();
    elsewhere.close().await.unwrap();
    holder.close().await.unwrap();
    copies.start(lab.request_of(&two.id, "second")).await.unwrap();

    for (job, number) in [("first", 1_u8), ("second", 2)] {
        let report = ended(&copies.jobs, job).await.unwrap();
        assert_eq!((report.state, &report.waiting), (CopyState::Succeeded, &None), "{report:?}");
        for disk in &report.disks {
            assert_eq!(disk.reader.as_deref(), Some("vddk"));
            let target = copies.target(&format!("{job}/{}", disk.key));
            assert!(target.iter().all(|it| *it == number), "{job}: other bytes arrived");
        }
    }
    let ended = || vddk::readers(library.directory()).is_empty();
    until("all readers have ended", ended).await.unwrap();
    let calls = library.calls().unwrap();
    assert_eq!(calls.iter().filter(|it| it.starts_with("connect ")).count(), 4);
    assert_eq!(at_once(&calls), 1);
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_is_killed_fails_its_job_and_leaves_no_snapshot() {
    let Some((lab, library, copies)) = reading().await.unwrap() else { return };
    for (id, _) in vddk::readers(library.directory()) {
        let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
    }
    let (code, detail) = copies.fault("job").await.unwrap();
    assert_eq!(code, "source/read-failed");
    assert!(detail.contains("signal: 9"), "{detail}");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p9_a_cancelled_job_ends_its_readers_whatever_they_do() {
    let Some((lab, library, copies)) = reading().await.unwrap() else { return };
    copies.jobs.cancel("job").unwrap();
    let report = ended(&copies.jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Cancelled);
    assert_eq!(report.snapshot.unwrap().state, "removed");
    lab.nothing_is_left().await.unwrap();
    let ended = || vddk::readers(library.directory()).is_empty();
    until("no reader is left", ended).await.unwrap();
}

#[tokio::test]
async fn a_session_is_kept_while_a_job_has_a_snapshot_and_no_longer() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.kept_alive(Duration::from_millis(20)).unwrap();
    let opened = lab.open("one").await.unwrap();
    let calls = |method: &str| lab.peer.calls().unwrap().get(method).copied().unwrap_or_default();
    let before = calls("RetrievePropertiesEx");
    until("the session is used", || calls("RetrievePropertiesEx") > before + 3).await.unwrap();
    assert_eq!(calls("Login"), 1);
    lab.peer.expire_sessions().unwrap();
    until("the session is renewed", || calls("Login") == 2).await.unwrap();
    opened.close().await.unwrap();
    // A session that was still used after its end would be renewed.
    lab.open("two").await.unwrap().close().await.unwrap();
    assert_eq!((calls("Login"), calls("Logout")), (3, 2));
}

#[tokio::test]
async fn a_job_goes_on_through_lost_sessions_and_bad_moments() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let bytes: Vec<u8> = (0..CAPACITY).map(|it| u8::try_from(it % 253).unwrap()).collect();
    lab.write(0, 0, &bytes).unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();
    for method in ["folder", "RetrievePropertiesEx"] {
        lab.peer.trouble(&Trouble { times: 2, ..Trouble::once(method, "status", "503") }).unwrap();
    }
    copies.start(lab.request("job")).await.unwrap();
    lab.peer.expire_sessions().unwrap();
    let report = ended(&copies.jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    assert!(copies.target("job/disk-2000") == bytes, "other bytes arrived");
    assert_eq!(report.disks[0].reader.as_deref(), Some("https"));
    lab.nothing_is_left().await.unwrap();
}

/// Starts a job and waits until its disks are read, slowly.
async fn reading_slowly(lab: &mut Lab) -> Result<Copies> {
    lab.write(0, 0, b"some bytes")?;
    let mut copies = Copies::of(lab).await?;
    lab.peer.trouble(&Trouble { times: 0, ..Trouble::once("folder", "delay", "50") })?;
    copies.start(lab.request("job")).await?;
    let reads = || lab.peer.calls().is_ok_and(|it| it.get("folder").is_some_and(|it| *it > 2));
    until("its disks are read", reads).await?;
    Ok(copies)
}

#[tokio::test]
async fn a_vm_that_is_deleted_in_the_middle_of_its_job_ends_it_with_a_name() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let copies = reading_slowly(&mut lab).await.unwrap();
    lab.peer.destroy(&lab.vm).unwrap();
    let (code, _) = copies.fault("job").await.unwrap();
    let known = ["source/changed-while-reading", "source/read-failed"];
    assert!(known.contains(&code.as_str()), "{code}");
    // It may have been unregistered as well, with its snapshot among its files; somebody has to say that it was not.
    assert_eq!(copies.left("job").unwrap(), "owed");
    until("the job lets go", || copies.source.owed().iter().all(|it| !it.at_work)).await.unwrap();
    assert!(copies.source.strike_off("job").await.unwrap());
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_its_snapshot_has_left_nothing() {
    let options = PeerOptions { vms: 2, ..PeerOptions::default() };
    let Some(mut lab) = Lab::start_with(options).await.unwrap() else { return };
    let one = lab.another("DC0_H0_VM0", 11).unwrap();
    let two = lab.another("DC0_H0_VM1", 12).unwrap();
    lab.bounded(1).unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();
    let holder = copies.source.open(&lab.request_of(&two.id, "holder")).await.unwrap();
    copies.start(lab.request_of(&one.id, "waiting")).await.unwrap();
    let waits = || copies.jobs.report("waiting").is_some_and(|it| it.waiting.is_some());
    until("the job waits for a place", waits).await.unwrap();
    copies.jobs.cancel("waiting").unwrap();
    let report = ended(&copies.jobs, "waiting").await.unwrap();
    assert_eq!(report.state, CopyState::Cancelled);
    assert_eq!(copies.left("waiting").unwrap(), "none");
    assert_eq!(lab.owed().unwrap(), 1, "the holder's");
    holder.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p3_a_job_that_is_cancelled_while_its_snapshot_is_taken_owes_it() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let mut copies = Copies::of(&mut lab).await.unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    copies.start(lab.request("job")).await.unwrap();
    let asked = || lab.peer.calls().is_ok_and(|it| it.contains_key("CreateSnapshot_Task"));
    until("a snapshot is asked for", asked).await.unwrap();
    copies.jobs.cancel("job").unwrap();
    ended(&copies.jobs, "job").await.unwrap();
    assert_eq!(copies.left("job").unwrap(), "owed");
    lab.peer.go_on().unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_snapshot_is_refused_has_left_nothing() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let mut copies = Copies::of(&mut lab).await.unwrap();
    let fault =
        Trouble { times: 0, ..Trouble::once("CreateSnapshot_Task", "task_fault", "NoPermission") };
    lab.peer.trouble(&fault).unwrap();
    copies.start(lab.request("job")).await.unwrap();
    let (code, _) = copies.fault("job").await.unwrap();
    assert_eq!(
        (code.as_str(), copies.left("job").unwrap().as_str()),
        ("source/not-permitted", "none")
    );
    assert_eq!(lab.owed().unwrap(), 0);
}

#[tokio::test]
async fn a_vm_that_is_renamed_in_the_middle_of_its_job_is_copied_all_the_same() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let copies = reading_slowly(&mut lab).await.unwrap();
    lab.peer.shape(&VmShape { name: Some("another name".to_owned()), ..named(&lab.vm) }).unwrap();
    let report = ended(&copies.jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    assert_eq!(report.snapshot.unwrap().state, "removed");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_task_that_never_ends_fails_the_job_and_stays_owed() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.impatient().unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "stuck", "")).unwrap();
    copies.start(lab.request("job")).await.unwrap();
    let (code, detail) = copies.fault("job").await.unwrap();
    assert_eq!(code, "source/call-failed");
    assert!(detail.contains("has not ended"), "{detail}");
    assert_eq!((lab.owed().unwrap(), copies.left("job").unwrap().as_str()), (1, "owed"));
}

/// Both are said: why the guest was not at rest, and why its snapshot is still there.
#[tokio::test]
async fn a_snapshot_that_stays_owed_does_not_hide_that_its_guest_was_not_at_rest() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let fault = Trouble::once("CreateSnapshot_Task", "task_fault", "ApplicationQuiesceFault");
    lab.peer.trouble(&fault).unwrap();
    let fault = Trouble::once("RemoveSnapshot_Task", "task_fault", "HostCommunication");
    lab.peer.trouble(&Trouble { times: 0, ..fault }).unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();
    copies.start(lab.request("job")).await.unwrap();
    let report = ended(&copies.jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    let snapshot = report.snapshot.unwrap();
    assert_eq!((snapshot.state.as_str(), snapshot.quiesced), ("owed", Some(false)));
    assert!(snapshot.quiesce_reason.unwrap().contains("Quiesce"));
    assert!(snapshot.reason.unwrap().contains("HostCommunication"));
    lab.peer.calm().unwrap();
}

/// Nobody looks into the log of a VMA to learn why every run of a VM reads all of it.
#[tokio::test]
async fn why_change_tracking_is_not_on_is_said_of_each_disk_of_a_full() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let mut copies = Copies::of(&mut lab).await.unwrap();
    lab.peer.trouble(&Trouble::once("ReconfigVM_Task", "task_fault", "NoPermission")).unwrap();
    for (job, said) in [("refused", true), ("allowed", false)] {
        copies.start(lab.request(job)).await.unwrap();
        let report = ended(&copies.jobs, job).await.unwrap();
        assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
        assert_eq!(report.disks.len(), 2);
        for disk in report.disks {
            assert_eq!((disk.method.as_str(), disk.change_id.is_none()), ("full", said));
            let reason = disk.method_reason.unwrap_or_default();
            assert_eq!(reason.contains("lacks the privilege VirtualMachine."), said, "{reason}");
            assert_eq!(reason.is_empty(), !said);
        }
    }
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn trap_u15_a_copy_that_meets_another_vcenter_fails_with_its_code() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&Trouble::once("folder", "hold", "")).unwrap();
    let mut copies = Copies::of(&mut lab).await.unwrap();
    let mut asked = lab.request("job");
    asked.disks.truncate(1);
    copies.start(asked).await.unwrap();
    until("it asks for the file", || lab.peer.holds().unwrap_or_default() > 0).await.unwrap();
    lab.peer.become_another("0c0b1a52-0000-4000-8000-00000000c0b1").unwrap();
    lab.peer.go_on().unwrap();
    let (code, detail) = copies.fault("job").await.unwrap();
    assert_eq!(code, "source/other-vcenter", "{detail}");
    assert!(detail.contains("another server"), "{detail}");
    until("it says what is left", || copies.left("job").is_ok_and(|it| it == "owed"))
        .await
        .unwrap();
}
