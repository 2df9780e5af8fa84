//! Answers that are lost, servers that forget, and passwords that are refused.

use std::time::Duration;

use hub_vma_api::{CleanupOutcome, CleanupRequest, Credentials, DiscoverRequest};
use hub_vsphere::ClientOptions;
use hub_vsphere_peer::{Trouble, VmShape};

use super::lab::{Lab, asked, disk, named, options};
use crate::doubles::until;
use crate::source::{OpenRequest, Source as _};
use crate::vsphere::held::Held;
use crate::vsphere::ledger::{Owed, snapshot_name};
use crate::vsphere::{VsphereOptions, VsphereSource};

fn discovery(lab: &Lab, password: &str) -> DiscoverRequest {
    let credentials = Credentials { password: password.to_owned(), ..lab.credentials() };
    DiscoverRequest { credentials: Some(credentials), ..DiscoverRequest::default() }
}

/// Waits until the peer was asked so often.
async fn is_asked(lab: &Lab, method: &str, times: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while lab.peer.calls().unwrap().get(method).is_none_or(|it| *it < times) {
        assert!(tokio::time::Instant::now() < deadline, "{method} is not called {times} times");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn p3_a_snapshot_that_is_made_while_it_is_looked_for_is_found() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let tasks = Trouble {
        containing: "recentTask".to_owned(),
        ..Trouble::once("RetrievePropertiesEx", "hold", "")
    };
    lab.peer.trouble(&tasks).unwrap();
    let request = CleanupRequest {
        job_id: "late".to_owned(),
        vm_id: lab.id.clone(),
        credentials: Some(lab.credentials()),
        source: None,
    };
    let comes = async {
        // The index of VMs comes first, and then the question for tasks, which is held.
        is_asked(&lab, "RetrievePropertiesEx", 1).await;
        lab.peer.snapshot(&lab.vm, "sendense-hub job late").unwrap();
        lab.peer.go_on().unwrap();
    };
    let (report, ()) = tokio::join!(lab.source.clean_up(&request), comes);
    assert_eq!(report.unwrap().outcome, CleanupOutcome::Removed);
    assert!(lab.peer.snapshots().unwrap().is_empty());
}

#[tokio::test]
async fn p3_a_snapshot_that_a_server_takes_after_its_answer_was_given_up_goes_too() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.peer.shape(&VmShape { tracking: Some(true), ..named(&lab.vm) }).unwrap();
    let hasty = options(&lab.peer, &lab.state).unwrap();
    let client = ClientOptions { call: Duration::from_secs(4), ..hasty.client };
    lab.source = VsphereSource::new(VsphereOptions { client, ..hasty }).unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    let error = lab.source.open(&lab.request("job")).await.err().unwrap();
    assert_eq!(error.code(), "source/endpoint-unreachable", "{error}");
    assert_eq!(lab.owed().unwrap(), 1, "it may come yet");
    lab.peer.go_on().unwrap();
    is_asked(&lab, "RemoveSnapshot_Task", 1).await;
    lab.nothing_is_left().await.unwrap();
}

/// A vCenter that is restarted forgets its tasks, and the host goes on with them.
#[tokio::test]
async fn p3_a_snapshot_that_comes_after_its_task_was_forgotten_goes_too() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.peer.shape(&VmShape { tracking: Some(true), ..named(&lab.vm) }).unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "stuck", "")).unwrap();
    let gone = Trouble::once("RetrievePropertiesEx", "fault", "ManagedObjectNotFound");
    lab.peer.trouble(&Trouble { containing: "info.result".to_owned(), ..gone }).unwrap();
    let recent = Trouble::once("RetrievePropertiesEx", "hold", "");
    lab.peer.trouble(&Trouble { containing: "recentTask".to_owned(), ..recent }).unwrap();
    let request = lab.request("job");
    let restarted = async {
        until("it is looked for", || lab.peer.holds().unwrap_or_default() > 0).await.unwrap();
        lab.peer.end_tasks().unwrap();
        lab.peer.go_on().unwrap();
    };
    let (opened, ()) = tokio::join!(lab.source.open(&request), restarted);
    assert!(opened.is_err());
    assert_eq!(lab.owed().unwrap(), 1, "it may come yet");
    for _ in 0..2 {
        let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
        assert_eq!(report.outcome, CleanupOutcome::Failed, "there is none, which is no proof");
        assert!(report.error.unwrap().detail.contains("may be taken yet"));
        lab.restart().unwrap();
    }
    lab.peer.snapshot(&lab.vm, "sendense-hub job job").unwrap();
    let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
    assert_eq!(report.outcome, CleanupOutcome::Removed);
    lab.nothing_is_left().await.unwrap();
}

/// A vCenter that loses its host in the middle of a task says that it failed, and the host goes on with it.
#[tokio::test]
async fn p3_a_snapshot_that_comes_after_its_task_failed_for_a_lost_host_goes_too() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.shape(&VmShape { tracking: Some(true), ..named(&lab.vm) }).unwrap();
    for lost in ["HostCommunication", "a general error"] {
        lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "task_fault", lost)).unwrap();
        lab.source.open(&lab.request("job")).await.err().unwrap();
        assert_eq!(lab.owed().unwrap(), 1, "{lost}: it may come yet");
        let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
        assert_eq!(report.outcome, CleanupOutcome::Failed, "{lost}: none there is no proof");
        lab.peer.snapshot(&lab.vm, "sendense-hub job job").unwrap();
        lab.nothing_is_left().await.unwrap();
    }
    // What a host itself has refused is certain.
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "task_fault", "NoDiskSpace")).unwrap();
    lab.source.open(&lab.request("job")).await.err().unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// A VMA is killed while it asks for a snapshot, and the vCenter knows no task of it: the host may be at work all the same.
#[tokio::test]
async fn p3_a_snapshot_that_comes_after_its_vma_was_killed_is_looked_for_on_and_on() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.peer.shape(&VmShape { tracking: Some(true), ..named(&lab.vm) }).unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    killed_while_it_asks(&lab).await.unwrap();
    for _ in 0..2 {
        lab.restart().unwrap();
        let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
        let why = report.error.expect("one look is no proof").detail;
        assert!(why.contains("may be taken yet"), "{why}");
    }
    lab.peer.go_on().unwrap();
    until("it is there", || lab.peer.snapshots().is_ok_and(|it| !it.is_empty())).await.unwrap();
    let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
    assert_eq!(report.outcome, CleanupOutcome::Removed);
    lab.nothing_is_left().await.unwrap();
}

/// What the server said is known after a restart, too: nobody looks for four hours for what was refused or has been taken.
#[tokio::test]
async fn what_became_of_a_request_for_a_snapshot_is_no_doubt_once_it_is_heard() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    std::mem::forget(lab.open("job").await.unwrap());
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    lab.restart().unwrap();
    let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
    assert_eq!(report.outcome, CleanupOutcome::None);
    // It is refused, and the look that would settle it fails.
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "fault", "InvalidState")).unwrap();
    let away = Trouble::once("RetrievePropertiesEx", "fault", "HostCommunication");
    let away = Trouble { containing: "recentTask".to_owned(), ..away };
    lab.peer.trouble(&Trouble { times: 0, ..away }).unwrap();
    assert!(lab.open("job").await.is_err());
    assert_eq!(lab.owed().unwrap(), 1);
    lab.peer.calm().unwrap();
    lab.restart().unwrap();
    let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
    assert_eq!(report.outcome, CleanupOutcome::None);
}

/// Opens a job in a runtime of its own, and ends that while the peer holds the request for its snapshot.
async fn killed_while_it_asks(lab: &Lab) -> anyhow::Result<()> {
    let doomed =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let source = {
        let _in = doomed.enter();
        VsphereSource::new(options(&lab.peer, &lab.state)?)?
    };
    let request = lab.request("job");
    doomed.spawn(async move { source.open(&request).await.is_ok() });
    let asked = || lab.peer.calls().is_ok_and(|it| it.contains_key("CreateSnapshot_Task"));
    let held = until("a snapshot is asked for", asked).await;
    doomed.shutdown_background();
    held
}

fn debt(lab: &Lab, source: &str, job_id: &str) -> anyhow::Result<Owed> {
    Ok(Owed {
        job_id: job_id.to_owned(),
        source: source.to_owned(),
        vm_id: lab.id.clone(),
        vm: lab.peer.vms()?[&lab.vm].clone(),
        name: snapshot_name(job_id),
    })
}

fn clean_up(lab: &Lab) -> CleanupRequest {
    CleanupRequest {
        job_id: "job".to_owned(),
        vm_id: lab.id.clone(),
        credentials: Some(lab.credentials()),
        source: None,
    }
}

#[tokio::test]
async fn p3_a_lost_answer_is_doubted_for_as_long_as_a_task_may_take() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.peer.shape(&VmShape { tracking: Some(true), ..named(&lab.vm) }).unwrap();
    let hasty = options(&lab.peer, &lab.state).unwrap();
    let client = ClientOptions { task: Duration::from_secs(4 * 60 * 60), ..hasty.client };
    lab.source = VsphereSource::new(VsphereOptions { client, ..hasty }).unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "status", "503")).unwrap();
    assert!(lab.source.open(&lab.request("job")).await.is_err());
    let records = lab.state.path().join("owed-snapshots");
    let record = std::fs::read_dir(records).unwrap().next().unwrap().unwrap().path();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    assert_eq!(record["may_come_seconds"], 4 * 60 * 60);
    assert!(lab.source.strike_off("job").await.unwrap(), "a person may know better");
    assert_eq!(lab.owed().unwrap(), 0);
}

/// What has come does not come again: somebody else removed it, and no later process looks on for hours.
#[tokio::test]
async fn a_snapshot_that_came_and_was_removed_by_hand_is_struck_off_at_the_next_look() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    std::mem::forget(lab.open("job").await.unwrap());
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    lab.restart().unwrap();
    assert_eq!(lab.owed().unwrap(), 1);
    let report = lab.source.clean_up(&clean_up(&lab)).await.unwrap();
    assert_eq!((report.outcome, report.error), (CleanupOutcome::None, None));
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p3_what_cannot_be_removed_is_tried_again_though_nobody_asks() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    let mut fault = Trouble::once("RemoveSnapshot_Task", "task_fault", "HostCommunication");
    fault.times = 3;
    lab.peer.trouble(&fault).unwrap();
    opened.close().await.unwrap_err();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_its_debt_is_written_holds_nothing() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let shared = &lab.source.shared;
    let client = shared.log_in(Some(&lab.credentials())).await.unwrap();
    let owed = debt(&lab, &shared.source(&client), "job").unwrap();
    let turn = shared.turns.turn(&lab.id, "job", &shared.waits).await.unwrap();
    tokio::select! {
        biased;
        _ = Held::take(shared, &client, owed, false, turn) => panic!("a disk is not that fast"),
        () = std::future::ready(()) => {}
    }
    is_asked(&lab, "RemoveSnapshot_Task", 1).await;
    lab.nothing_is_left().await.unwrap();
    while shared.ledger.is_held("job") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_removal_that_hangs_keeps_no_job_from_another_vm() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let other = lab.peer.vms().unwrap().into_keys().find(|it| *it != lab.vm).unwrap();
    let id = "5015f0e2-0000-4000-8000-00000000000b".to_owned();
    let disks = Some(vec![disk(2000, 0)]);
    let shape = VmShape { instance_uuid: Some(id.clone()), disks, ..named(&other) };
    lab.peer.shape(&shape).unwrap();
    std::mem::forget(lab.open("one").await.unwrap());
    lab.restart().unwrap();
    lab.peer.trouble(&Trouble::once("RemoveSnapshot_Task", "hold", "")).unwrap();
    lab.source.inventory(&discovery(&lab, lab.peer.password())).await.unwrap();
    is_asked(&lab, "RemoveSnapshot_Task", 1).await;
    let disks = vec![asked("disk-2000")];
    let request = OpenRequest { vm_id: id, disks, ..lab.request("two") };
    let opened = tokio::time::timeout(Duration::from_secs(60), lab.source.open(&request)).await;
    let opened = opened.expect("it waits for the other VM").unwrap();
    opened.close().await.unwrap();
    lab.peer.calm().unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn leftovers_wait_once_for_a_server_that_does_not_answer() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let shared = &lab.source.shared;
    let client = shared.log_in(Some(&lab.credentials())).await.unwrap();
    for job_id in ["one", "two", "three"] {
        shared.ledger.owe(&debt(&lab, &shared.source(&client), job_id).unwrap()).unwrap();
        shared.ledger.let_go(job_id);
    }
    let looked_up = || lab.peer.calls().unwrap().get("FindAllByUuid").copied().unwrap_or_default();
    let away = |method: &str| Trouble { times: 0, ..Trouble::once(method, "status", "503") };
    let silent = Trouble { containing: "currentSession".into(), ..away("RetrievePropertiesEx") };
    lab.peer.trouble(&away("FindAllByUuid")).unwrap();
    lab.peer.trouble(&silent).unwrap();
    shared.sweep(&client, |_| true).await;
    assert_eq!((looked_up(), lab.owed().unwrap()), (4, 3), "the attempts of one");
    // A server that answers for all but one VM keeps nobody from the others.
    lab.peer.calm().unwrap();
    lab.peer.trouble(&Trouble { times: 4, ..away("FindAllByUuid") }).unwrap();
    shared.sweep(&client, |_| true).await;
    assert_eq!(lab.owed().unwrap(), 1);
}

#[tokio::test]
async fn a_password_that_was_refused_is_sent_again_only_when_somebody_tests_it() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let logins = || lab.peer.calls().unwrap().get("Login").copied().unwrap_or_default();
    let wrong = discovery(&lab, "hunter2");
    let jobs = [0; 6].map(|_| lab.source.inventory(&wrong));
    let [a, b, c, d, e, f] = jobs;
    let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
    for error in [a, b, c, d, e, f].map(Result::unwrap_err) {
        assert_eq!(error.code(), "source/login-refused");
        assert!(!error.to_string().contains("hunter2"));
    }
    assert_eq!(logins(), 1, "an account is locked by repetition");
    let credentials = wrong.credentials.clone().unwrap();
    assert_eq!(lab.source.test(&credentials).await.unwrap_err().code(), "source/login-refused");
    assert_eq!(logins(), 2);
    lab.source.inventory(&discovery(&lab, lab.peer.password())).await.unwrap();
    let locked = Trouble::once("Login", "fault", "InvalidLogin");
    lab.peer.trouble(&locked).unwrap();
    let right = discovery(&lab, lab.peer.password());
    lab.source.inventory(&right).await.unwrap_err();
    let error = lab.source.inventory(&right).await.unwrap_err();
    assert!(error.to_string().contains("test the credentials"), "{error}");
    lab.source.test(&lab.credentials()).await.unwrap();
    lab.source.inventory(&right).await.unwrap();
}

/// Runs six discoveries at once: the codes of what went wrong.
async fn six_at_once(lab: &Lab) -> Vec<&'static str> {
    let request = discovery(lab, lab.peer.password());
    let [a, b, c, d, e, f] = [0; 6].map(|_| lab.source.inventory(&request));
    let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
    [a, b, c, d, e, f].into_iter().filter_map(|it| it.err().map(|it| it.code())).collect()
}

#[tokio::test]
async fn a_password_that_was_changed_is_refused_once_to_all_who_are_due_together() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let asked = |method: &str| lab.peer.calls().unwrap().get(method).copied().unwrap_or_default();
    assert!(six_at_once(&lab).await.is_empty());
    lab.source.shared.logins.turns.age();
    let changed = Trouble::once("Login", "fault", "InvalidLogin");
    lab.peer.trouble(&Trouble { times: 0, ..changed }).unwrap();
    let before = asked("Login");
    assert_eq!(six_at_once(&lab).await, ["source/login-refused"; 6]);
    assert_eq!(asked("Login"), before + 1, "an account is locked by repetition");
    lab.peer.calm().unwrap();
    lab.source.test(&lab.credentials()).await.unwrap();
    assert!(six_at_once(&lab).await.is_empty());
    // Those who wait for one that is not answered do not wait as long once more, each after the other.
    lab.source.shared.logins.turns.age();
    let away = Trouble::once("RetrieveServiceContent", "status", "503");
    lab.peer.trouble(&Trouble { times: 0, ..away }).unwrap();
    let before = asked("RetrieveServiceContent");
    assert_eq!(six_at_once(&lab).await, ["source/endpoint-unreachable"; 6]);
    assert_eq!(asked("RetrieveServiceContent"), before + 4, "the attempts of one");
}

#[tokio::test]
async fn a_job_that_waits_to_be_let_in_says_so() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&Trouble::once("Login", "hold", "")).unwrap();
    let request = lab.request("job");
    let heard = async {
        is_asked(&lab, "Login", 1).await;
        let said = lab.source.waits_for("job");
        lab.peer.go_on().unwrap();
        said
    };
    let (opened, said) = tokio::join!(lab.source.open(&request), heard);
    assert!(said.unwrap().contains("let the VMA in"));
    assert_eq!(lab.source.waits_for("job"), None);
    opened.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_job_that_cannot_begin_leaves_no_session() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.snapshot(&lab.vm, "theirs").unwrap();
    let error = lab.source.open(&lab.request("job")).await.err().unwrap();
    assert_eq!(error.code(), "source/vm-has-snapshots");
    let calls = lab.peer.calls().unwrap();
    assert_eq!((calls.get("Login"), calls.get("Logout")), (Some(&1), Some(&1)));
}
