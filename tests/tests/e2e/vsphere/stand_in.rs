//! Promise P3 with two VMAs of one vCenter: what the first leaves when it dies, the second removes before it copies.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::processes::{Lifetime, Vma, VmaOptions};
use hub_tests::vsphere::{Account, VsphereLab, settings, until};
use serde_json::{Value, json};

use super::held::{HeldBackup, failed, play};

/// What hub and VMAs say of it.
const EXPECTED: &[&str] = &[
    "a copy was lost and is ordered again",
    "a backup ended badly",
    "a backup has a warning",
    "a disk was not copied",
    "an NBD server was lost",
    "requeued",
    "interrupted",
];

/// Registers a second VMA, which is set up with another address of the vCenter, and lets the hub find out which it is.
async fn second(lab: &VsphereLab) -> Result<Vma> {
    let address = lab.peer.address().replace("127.0.0.1", "localhost");
    ensure!(address != lab.peer.address(), "another spelling than {address}");
    let mut environment = settings(&lab.peer, Account::OfHub, lab.folder())?;
    environment.push(("VMA__SOURCE__ENDPOINT".to_owned(), address.clone()));
    let vma = Vma::start(VmaOptions {
        name: "second".to_owned(),
        state_dir: lab.folder().join("second"),
        datastores: Vec::new(),
        logs: lab.folder().join("logs"),
        environment,
        lifetime: Lifetime::Owned,
    });
    let vma = vma.await?;
    let body = json!({"name": "second", "url": vma.url, "token": vma.token});
    let node = lab.api.post("/vma-nodes", &body).await?.ok()?.text("/id")?;
    let login = json!({
        "name": "by-name",
        "vcenter_host": address,
        "username": lab.peer.user(),
        "password": lab.peer.password(),
    });
    let login = lab.api.post("/vmware-credentials", &login).await?.ok()?.text("/id")?;
    let test = format!("/vmware-credentials/{login}/test");
    lab.api.post(&test, &json!({"vma_node_id": node})).await?.ok()?;
    Ok(vma)
}

#[tokio::test]
async fn p3_a_vma_that_stands_in_removes_the_snapshot_of_a_dead_one_and_copies() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let second = second(lab).await?;
        lab.vma.program.kill()?;
        lab.peer.calm()?;
        failed(&it.ended(lab).await?, "vma/unreachable")?;
        let run = lab.start_backup(&it.context, "full").await?;
        let run = lab.api.ended(&run, |_| ()).await?;
        ensure!(run.text("/status")? == "succeeded", "{run:#}\n{}", second.program.tail());
        ensure!(run.text("/copied_by/vma_name")? == "second", "{run:#}");
        until("the vCenter has no snapshot", || Ok(lab.peer.snapshots()?.is_empty())).await?;
        ensure!(lab.owed()? == 1, "the dead one still believes in its own");
        lab.hub_owes("nothing", <[Value]>::is_empty).await?;
        // It finds out by itself.
        lab.vma.restart().await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfBoth, EXPECTED, part).await.unwrap();
}
