//! Which vCenter or host is behind a session, and whether it is the one that is meant.
//!
//! A name may lead to another one than before: a copy that was restored elsewhere has VMs of the same ids, and even the
//! references of the first. A session stays at the one that it was opened with, so each is judged once.

use hub_vsphere::Client;

use super::Shared;
use crate::source::{OpenRequest, SourceError};

/// As much of an id from the wire as is repeated.
const SHOWN: usize = 100;

impl Shared {
    /// Names the vCenter or host behind a session: by its own id, or by its address where it has none.
    pub(super) fn source(&self, client: &Client) -> String {
        let known = client.about().instance_uuid.clone();
        known.unwrap_or_else(|| self.options.endpoint.authority())
    }

    /// Whether the hub means the vCenter or host behind a session, by its id or by its address.
    pub(super) fn is_source(&self, client: &Client, asked: &str) -> bool {
        self.source(client).eq_ignore_ascii_case(asked) || self.check_endpoint(asked).is_ok()
    }

    /// Refuses a VM of another vCenter, where the request says of which one it is.
    pub(super) fn check_vcenter(
        &self,
        client: &Client,
        request: &OpenRequest,
    ) -> Result<(), SourceError> {
        let Some(wanted) = request.vcenter_uuid.as_deref().map(str::trim) else { return Ok(()) };
        let found = client.about().instance_uuid.as_deref().map(str::trim);
        if found.is_some_and(|it| it.eq_ignore_ascii_case(wanted)) {
            return Ok(());
        }
        let endpoint = self.options.endpoint.authority();
        let wanted: String = wanted.chars().take(SHOWN).collect();
        let there = match found {
            Some(uuid) => format!("the vCenter with the id {uuid}"),
            None => "a host without an id of its own".to_owned(),
        };
        Err(SourceError::OtherVcenter(format!(
            "`{endpoint}` leads to {there}, and the VM is of the vCenter with the id {wanted}; let that name lead there again, or add the VM again through a VMA that reads its vCenter"
        )))
    }
}

/// The debt is to somebody else.
pub(super) fn other_source(name: &str, there: &str, here: &str) -> SourceError {
    let there: String = there.chars().take(SHOWN).collect();
    SourceError::OtherVcenter(format!(
        "the snapshot `{name}` is at {there} and this is {here}; point the VMA at that vCenter or host again until the snapshot is gone"
    ))
}
