//! What the vCenter has, as we and VMware's own client see it, and what is left there in the end.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::vsphere::store;
use serde_json::{Value, json};

use super::{NAME, Stage};
use crate::ledger::{Ledger, expect};
use crate::screen::{Screen, bytes};

/// Makes VMA and vCenter known to the hub.
pub(super) async fn register(stage: &mut Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("register");
    let (api, lab) = (&stage.lab.api, &stage.lab);
    let body = json!({"name": "lab", "url": lab.vma.url, "token": lab.vma.token});
    let node = api.post("/vma-nodes", &body).await?.ok()?;
    let credential = store(api, &lab.peer).await?;
    let body = json!({"vma_node_id": node.text("/id")?});
    let path = format!("/vmware-credentials/{credential}/test");
    let tested = api.post(&path, &body).await?.ok()?;
    ensure!(tested.flag("/ok")?, "the account works: {tested:#}");
    screen.end(&[format!(
        "a VMA with a {} source; the account was tried, and the certificate is pinned",
        node.text("/source_kind")?
    )]);
    stage.credential = credential;
    Ok(())
}

/// Lists the VMs, and compares with what `pyvmomi` lists.
pub(super) async fn discover(
    stage: &Stage,
    screen: &mut Screen,
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("discover");
    let body = json!({"credential_id": stage.credential});
    let found = stage.lab.api.post("/discovery/discover-vms", &body).await?.ok()?;
    let mut ours = Vec::new();
    let mut disks = 0;
    for vm in found.list("/vms")? {
        disks += vm.list("/disks")?.len();
        ours.push(named(&vm)?);
    }
    ours.sort();
    let (count, calls) = (ours.len(), soap_calls(stage)?);
    screen.end(&[format!("{count} VMs with {disks} disks, in {calls} calls to the vCenter")]);
    screen.begin("second client");
    let seen = seen_by_pyvmomi(stage)?;
    let mut theirs = seen.iter().map(named).collect::<Result<Vec<_>>>()?;
    theirs.sort();
    ledger.prove(NAME, "= pyvmomi", expect(&ours.join(", "), &theirs.join(", ")));
    screen.end(&[format!("pyvmomi lists {} VMs with the same names and ids", theirs.len())]);
    Ok(())
}

fn named(vm: &Value) -> Result<String> {
    Ok(format!("{} {} {}", vm.text("/name")?, vm.text("/moref")?, vm.text("/instance_uuid")?))
}

fn seen_by_pyvmomi(stage: &Stage) -> Result<Vec<Value>> {
    let seen = stage.lab.peer.seen_by_pyvmomi()?.context("pyvmomi is not there")?;
    seen.as_array().cloned().context("a list of VMs")
}

/// Calls that are no reads of datastore files.
fn soap_calls(stage: &Stage) -> Result<u64> {
    let calls = stage.lab.peer.calls()?;
    Ok(calls.iter().filter(|(method, _)| *method != "folder").map(|(_, count)| count).sum())
}

/// Puts the VM under management.
pub(super) async fn add(stage: &mut Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("add");
    let context = stage.lab.add(&stage.credential, NAME).await?;
    let mut lines = vec![
        format!("{NAME}: instance {}", context.text("/instance_uuid")?),
        format!("vCenter {}, there {}", context.text("/vcenter_uuid")?, context.text("/moref")?),
    ];
    for disk in context.list("/disks")? {
        ensure!(disk.is_null_at("/job_id"), "no job has touched it: {disk:#}");
        lines.push(format!(
            "row {} {} {} {}, job_id null",
            disk.number("/id")?,
            disk.text("/disk_id")?,
            bytes(disk.number("/capacity_bytes")?),
            disk.text("/backing_uuid")?
        ));
    }
    screen.end(&lines);
    stage.context = context;
    Ok(())
}

/// Says what speaks against a backup.
pub(super) async fn preflight(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("pre-flight");
    let path = format!("/vm-contexts/{}/preflight", stage.context_id()?);
    let said = stage.lab.api.get(&path).await?.ok()?;
    ensure!(said.flag("/can_be_copied")?, "it can be copied: {said:#}");
    let mut lines = Vec::new();
    for concern in said.list("/concerns")? {
        let (code, effect) = (concern.text("/code")?, concern.text("/effect")?);
        lines.push(format!("{code}, effect {effect}:"));
        lines.push(concern.text("/remedy")?);
    }
    if lines.is_empty() {
        lines.push("nothing speaks against a backup".to_owned());
    }
    screen.end(&lines);
    Ok(())
}

/// Looks for snapshots, with the second client and in what the VMA has written down.
pub(super) async fn leftovers(
    stage: &Stage,
    screen: &mut Screen,
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("leftovers");
    let lab = &stage.lab;
    let (mut left, seen) = (0, seen_by_pyvmomi(stage)?);
    for vm in &seen {
        left += vm.list("/snapshots")?.len();
    }
    ledger.prove(NAME, "no snapshot", expect(&left, &0));
    ledger.prove(NAME, "none owed", lab.owed().and_then(|owed| expect(&owed, &0)));
    let (taken, removed) = (lab.calls("CreateSnapshot_Task")?, lab.calls("RemoveSnapshot_Task")?);
    screen.end(&[format!(
        "{taken} snapshots taken, {removed} removed; pyvmomi sees {left} on {} VMs",
        seen.len()
    )]);
    Ok(())
}
