//! From an empty catalogue to VMs with disks, without any job.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use serde_json::{Value, json};

use super::Managed;
use crate::screen::Screen;
use crate::stage::Stage;

/// The VMs that are put under management.
const NAMES: [&str; 2] = ["pgtest1", "web01"];

/// Makes the VMA known to the hub.
pub(super) async fn register(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("register");
    let body = json!({"name": "lab", "url": stage.vma.url, "token": stage.vma.token});
    let node = stage.api.post("/vma-nodes", &body).await?.ok()?;
    let kind = node.text("/source_kind")?;
    screen.end(&[format!("the VMA proved that it knows its token; its source is a {kind}")]);
    Ok(())
}

/// Lists the source's VMs.
pub(super) async fn discover(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("discover");
    let found = stage.api.post("/discovery/discover-vms", &json!({})).await?.ok()?;
    let vms = found.list("/vms")?;
    let mut disks = 0;
    for vm in &vms {
        ensure!(!vm.flag("/managed")?, "nothing is managed yet: {vm:#}");
        disks += vm.list("/disks")?.len();
    }
    ensure!(vms.len() == NAMES.len(), "the datastore has {} VMs: {found:#}", NAMES.len());
    screen.end(&[format!("{} VMs with {disks} disks, none under management", vms.len())]);
    Ok(())
}

/// Puts both VMs under management and shows their rows.
pub(super) async fn add(stage: &Stage, screen: &mut Screen) -> Result<Vec<Managed>> {
    screen.begin("add");
    let body = json!({"vm_names": NAMES});
    let added = stage.api.post("/discovery/add-vms", &body).await?.ok()?;
    let (mut all, mut lines) = (Vec::new(), Vec::new());
    for result in added.list("/results")? {
        ensure!(result.flag("/success")?, "not added: {result:#}");
        let (name, context_id) = (result.text("/vm_name")?, result.text("/context_id")?);
        let rows = stage.api.all(&format!("/vm-contexts/{context_id}/disks")).await?;
        for row in &rows {
            ensure!(row.is_null_at("/job_id"), "a discovered disk has no job: {row:#}");
        }
        lines.push(format!("{name}: {}", described(&rows)?));
        all.push(Managed { name, context_id, rows, runs: Vec::new() });
    }
    screen.end(&lines);
    Ok(all)
}

/// `row 1 disk-2000 job_id null, row 2 …`.
pub(super) fn described(rows: &[Value]) -> Result<String> {
    let mut parts = Vec::new();
    for row in rows {
        let job = match row.pointer("/job_id").and_then(Value::as_str) {
            Some(id) => format!("{}…", id.chars().take(13).collect::<String>()),
            None => "null".to_owned(),
        };
        parts.push(format!("row {} {} job_id {job}", row.number("/id")?, row.text("/disk_id")?));
    }
    Ok(parts.join(", "))
}
