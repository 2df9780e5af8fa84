//! Who logs in at the vCenter: the settings of a VMA, and a credential of the hub.

use std::fs;
use std::path::Path;

use anyhow::Result;
use hub_vsphere_peer::VspherePeer;
use serde_json::json;

use crate::api::{Api, Fields as _};

/// Whose login there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The hub's credential alone.
    OfHub,
    /// The VMA has one of its own, too, with which it can clean up at its start.
    OfBoth,
}

/// Environment of a VMA that reads this vCenter; a password goes into a file below `folder`.
pub fn settings(
    peer: &VspherePeer,
    account: Account,
    folder: &Path,
) -> Result<Vec<(String, String)>> {
    let digits: Vec<_> = peer.thumbprint().iter().map(|it| format!("{it:02X}")).collect();
    let mut all = vec![
        ("VMA__SOURCE__KIND", "vsphere".to_owned()),
        ("VMA__SOURCE__ENDPOINT", peer.address().to_owned()),
        ("VMA__SOURCE__THUMBPRINT", digits.join(":")),
    ];
    if account == Account::OfBoth {
        let file = folder.join("vcenter-password");
        fs::write(&file, peer.password())?;
        all.push(("VMA__SOURCE__USERNAME", peer.user().to_owned()));
        all.push(("VMA__SOURCE__PASSWORD_FILE", file.display().to_string()));
    }
    Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Has the hub keep the vCenter's account, and answers the credential's id.
pub async fn store(api: &Api, peer: &VspherePeer) -> Result<String> {
    let body = json!({
        "name": "vcenter",
        "vcenter_host": peer.address(),
        "username": peer.user(),
        "password": peer.password(),
    });
    api.post("/vmware-credentials", &body).await?.ok()?.text("/id")
}
