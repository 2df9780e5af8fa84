//! From a vCenter to a restored disk, on every database; the second client sees what we see.

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::judge::file_digest;
use hub_tests::vsphere::{Account, Guest, VsphereLab};
use hub_vsphere_peer::PeerOptions;
use serde_json::{Value, json};

use super::MIB;

/// Bytes of the disks; the second one ends in the middle of a block.
const DISKS: [u64; 2] = [24 * MIB, 5 * MIB + 1024];

/// What change tracking of the simulator tells apart.
const GRAIN: u64 = 65_536;

#[tokio::test]
async fn a_vm_of_a_vcenter_is_found_protected_and_restored_on_sqlite() {
    tell(PeerOptions::default(), DatabaseKind::Sqlite).await.unwrap();
}

#[tokio::test]
async fn a_vm_of_a_vcenter_is_found_protected_and_restored_on_mariadb() {
    tell(PeerOptions::default(), DatabaseKind::MariaDb).await.unwrap();
}

#[tokio::test]
async fn a_vm_of_a_vcenter_is_found_protected_and_restored_on_postgres() {
    tell(PeerOptions::default(), DatabaseKind::Postgres).await.unwrap();
}

#[tokio::test]
async fn a_vm_of_a_host_without_a_vcenter_is_found_protected_and_restored() {
    let host = PeerOptions { esxi: true, ..PeerOptions::default() };
    tell(host, DatabaseKind::Sqlite).await.unwrap();
}

async fn tell(vcenter: PeerOptions, kind: DatabaseKind) -> Result<()> {
    let part = async |lab: &mut VsphereLab| {
        let guest = Guest::make(&lab.peer, "payroll", &DISKS)?;
        let credential = lab.register().await?;
        both_clients_see_the_same(lab, &credential).await?;
        let context = lab.add(&credential, guest.name()).await?;
        has_an_identity(lab, &context, &credential, vcenter.esxi).await?;
        preflight_says(lab, &context, &["preflight/tracking-off"]).await?;

        guest.write(0, MIB + 7, &noise(1, 9 << 20))?;
        guest.write(1, 5 * MIB, &noise(2, 1024))?;
        let full = lab.back_up(&guest, &context, "full").await?;
        ensure!(lab.calls("CreateSnapshot_Task")? == 1, "one snapshot for both disks");
        lab.nothing_is_left().await?;
        let then = guest.disks().iter().map(|it| file_digest(it)).collect::<Result<Vec<_>>>()?;

        let id = context.text("/context_id")?;
        lab.api.post(&format!("/vm-contexts/{id}/refresh"), &json!({})).await?.ok()?;
        preflight_says(lab, &context, &[]).await?;
        guest.write(0, 20 * MIB + 5, &noise(3, 100))?;
        incremental_moves_what_has_changed(lab, &guest, &context).await?;

        for (point, digest) in full.iter().zip(then) {
            let restored = restore(lab, point).await?;
            ensure!(restored == digest, "the first point as it was: {point:#}");
        }
        lab.logged_only(&[])
    };
    VsphereLab::play_at(vcenter, kind, Account::OfHub, part).await
}

/// What the hub discovers, and what VMware's own client lists.
async fn both_clients_see_the_same(lab: &VsphereLab, credential: &str) -> Result<()> {
    let body = json!({"credential_id": credential});
    let found = lab.api.post("/discovery/discover-vms", &body).await?.ok()?;
    let Some(seen) = lab.peer.seen_by_pyvmomi()? else { return Ok(()) };
    let theirs = seen.as_array().context("a list of VMs")?;
    let mut ours = found.list("/vms")?;
    ours.sort_by_key(|vm| vm.text("/moref").unwrap_or_default());
    ensure!(ours.len() == theirs.len(), "{found:#}\n{seen:#}");
    for (our, their) in ours.iter().zip(theirs) {
        for (field, same) in [("/name", "/name"), ("/moref", "/moref")] {
            ensure!(our.text(field)? == their.text(same)?, "{our:#}\n{their:#}");
        }
        for (field, same) in [("/instance_uuid", "/instance_uuid"), ("/power_state", "/power")] {
            ensure!(our.text(field)? == their.text(same)?, "{our:#}\n{their:#}");
        }
        let (own, other) = (our.list("/disks")?, their.list("/disks")?);
        ensure!(own.len() == other.len(), "{our:#}\n{their:#}");
        for (own, other) in own.iter().zip(other) {
            ensure!(own.text("/id")? == format!("disk-{}", other.number("/key")?), "{own:#}");
            ensure!(own.number("/capacity_bytes")? == other.number("/bytes")?, "{own:#}");
            ensure!(own.text("/path")? == other.text("/file")?, "{own:#}\n{other:#}");
        }
    }
    Ok(())
}

/// The VM and its disks are rows that know what they are of, and no job has touched them.
async fn has_an_identity(
    lab: &VsphereLab,
    context: &Value,
    credential: &str,
    host: bool,
) -> Result<()> {
    let moref = lab.peer.vms()?.get("payroll").cloned().context("the vCenter has it")?;
    ensure!(context.text("/moref")? == moref, "{context:#}");
    // A host has no id of its own that its API tells; its address stands for it.
    ensure!(context.is_null_at("/vcenter_uuid") == host, "{context:#}");
    ensure!(context.text("/instance_uuid")? == context.text("/vmware_vm_id")?, "{context:#}");
    ensure!(context.text("/credential_id")? == credential, "{context:#}");
    let rows = context.list("/disks")?;
    ensure!(rows.len() == DISKS.len(), "{context:#}");
    for (ordinal, (row, capacity)) in (0..).zip(rows.iter().zip(DISKS)) {
        ensure!(row.is_null_at("/job_id"), "{row:#}");
        ensure!(row.number("/capacity_bytes")? == capacity, "{row:#}");
        ensure!(row.number("/device_key")? == 2000 + ordinal, "{row:#}");
        ensure!(row.text("/backing_uuid")?.starts_with("6000c29"), "{row:#}");
    }
    Ok(())
}

async fn preflight_says(lab: &VsphereLab, context: &Value, expected: &[&str]) -> Result<()> {
    let path = format!("/vm-contexts/{}/preflight", context.text("/context_id")?);
    let said = lab.api.get(&path).await?.ok()?;
    ensure!(said.flag("/can_be_copied")?, "{said:#}");
    let concerns = said.list("/concerns")?;
    let codes = concerns.iter().map(|it| it.text("/code")).collect::<Result<Vec<_>>>()?;
    ensure!(codes == expected, "{said:#}");
    for concern in concerns {
        ensure!(!concern.text("/remedy")?.is_empty(), "it says what to do: {concern:#}");
    }
    Ok(())
}

async fn incremental_moves_what_has_changed(
    lab: &VsphereLab,
    guest: &Guest,
    context: &Value,
) -> Result<()> {
    let before = lab.calls("QueryChangedDiskAreas")?;
    let later = lab.back_up(guest, context, "incremental").await?;
    ensure!(lab.calls("QueryChangedDiskAreas")? > before, "the vCenter was asked");
    for (point, changed) in later.iter().zip([GRAIN, 0]) {
        ensure!(point.text("/backup_type")? == "incremental", "{point:#}");
        ensure!(point.text("/method")? == "changed_since", "{point:#}");
        ensure!(point.number("/bytes/sent")? == changed, "{changed} bytes: {point:#}");
        let file = guest.disks().get(usize::try_from(point.number("/disk_id")?)?);
        let source = file_digest(file.context("a disk of the guest")?)?;
        ensure!(restore(lab, point).await? == source, "restored as it is now: {point:#}");
    }
    Ok(())
}

async fn restore(lab: &VsphereLab, point: &Value) -> Result<blake3::Hash> {
    let id = point.text("/backup_id")?;
    let body = json!({"backup_id": id, "format": "raw"});
    let restored = lab.api.run("/restores", &body).await?;
    file_digest(restored.text("/path")?.as_ref())
}
