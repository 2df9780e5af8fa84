//! Whom a VMA believes when no thumbprint and no authority is configured: the system, and nobody else.

use std::fs;

use anyhow::{Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::processes::{Lifetime, Vma, VmaOptions};
use hub_tests::vsphere::{Account, VsphereLab, store};
use hub_vsphere_peer::{PeerOptions, VspherePeer};
use serde_json::json;

#[tokio::test]
async fn trap_c28_a_vcenter_is_believed_by_the_authorities_of_the_system() {
    let part = async |lab: &mut VsphereLab| {
        let Some(stranger) = VspherePeer::start(PeerOptions::default())? else { return Ok(()) };
        let credential = store(&lab.api, &lab.peer).await?;
        let own = lab.peer.authority().to_owned();
        for (name, authority, trusted) in
            [("own", own.as_str(), true), ("strange", stranger.authority(), false)]
        {
            let vma = believing(lab, name, authority).await?;
            let body = json!({"name": name, "url": vma.url, "token": vma.token});
            let node = lab.api.post("/vma-nodes", &body).await?.ok()?.text("/id")?;
            let test = format!("/vmware-credentials/{credential}/test");
            let by = json!({"vma_node_id": node});
            let tested = lab.api.post(&test, &by).await?;
            let discover = json!({"vma_node_id": node, "credential_id": credential});
            let found = lab.api.post("/discovery/discover-vms", &discover).await?;
            if trusted {
                ensure!(tested.ok()?.flag("/ok")?, "the system's authority made its certificate");
                ensure!(found.ok()?.list("/vms")?.len() == 2, "both VMs of the vCenter");
                continue;
            }
            for answer in [tested, found] {
                let refused = answer.refused(409, "source/endpoint-untrusted")?;
                let detail = refused.text("/detail")?;
                ensure!(detail.contains("none of the authorities"), "told in words: {detail}");
            }
        }
        Ok(())
    };
    VsphereLab::play(DatabaseKind::Sqlite, Account::OfHub, part).await.unwrap();
}

/// A VMA of the lab's vCenter on a system that trusts this authority.
async fn believing(lab: &VsphereLab, name: &str, authority: &str) -> Result<Vma> {
    let bundle = lab.folder().join(format!("{name}.pem"));
    fs::write(&bundle, authority)?;
    let environment = [
        ("VMA__SOURCE__KIND", "vsphere".to_owned()),
        ("VMA__SOURCE__ENDPOINT", lab.peer.address().to_owned()),
        ("SSL_CERT_FILE", bundle.display().to_string()),
        ("SSL_CERT_DIR", lab.folder().join("no-directory").display().to_string()),
    ];
    let vma = Vma::start(VmaOptions {
        name: name.to_owned(),
        state_dir: lab.folder().join(format!("vma-{name}")),
        datastores: Vec::new(),
        logs: lab.folder().join("logs"),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        lifetime: Lifetime::Owned,
    });
    vma.await
}
