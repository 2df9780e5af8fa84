//! A peer with a client that is logged in.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use hub_vsphere::{Client, ClientOptions, Endpoint, Login, MoRef, Trust, Vm, VmPage, VsphereError};
use hub_vsphere_peer::{DiskShape, PeerOptions, Shaped, VmShape, VspherePeer};

/// Bytes of every disk that a lab makes.
pub(crate) const CAPACITY: u64 = 4 << 20;

/// Short pauses between attempts, and more patience with tasks than the peer needs on a machine of any speed.
pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        backoff: Duration::from_millis(5),
        task: Duration::from_secs(120),
        ..ClientOptions::default()
    }
}

/// A client with the peer's own account and authority.
pub(crate) async fn client(peer: &VspherePeer) -> Result<Client> {
    Ok(connect(peer, &Trust::Authority(peer.authority().to_owned()), peer.password()).await?)
}

/// The same with less patience.
pub(crate) async fn hasty(peer: &VspherePeer, options: ClientOptions) -> Result<Client> {
    let trust = Trust::Authority(peer.authority().to_owned());
    let login =
        Login { username: peer.user().to_owned(), password: peer.password().to_owned().into() };
    Ok(Client::connect(Endpoint::parse(peer.address())?, &trust, login, options).await?)
}

/// The same with another trust or password.
pub(crate) async fn connect(
    peer: &VspherePeer,
    trust: &Trust,
    password: &str,
) -> Result<Client, VsphereError> {
    let endpoint =
        Endpoint::parse(peer.address()).map_err(|it| VsphereError::Setup(it.to_string()))?;
    let login = Login { username: peer.user().to_owned(), password: password.to_owned().into() };
    Client::connect(endpoint, trust, login, options()).await
}

/// A vCenter with two VMs, and a client.
pub(crate) async fn lab() -> Result<Option<(VspherePeer, Client)>> {
    lab_with(PeerOptions::default()).await
}

pub(crate) async fn lab_with(options: PeerOptions) -> Result<Option<(VspherePeer, Client)>> {
    let Some(peer) = VspherePeer::start(options)? else { return Ok(None) };
    let client = client(&peer).await?;
    Ok(Some((peer, client)))
}

/// The peer's first VM.
pub(crate) fn first(peer: &VspherePeer) -> Result<String> {
    peer.vms()?.into_keys().next().context("the peer has no VM")
}

/// Two disks as a real host has them, with change tracking on.
pub(crate) fn tracked(peer: &VspherePeer, vm: &str) -> Result<Shaped> {
    let disk = |key: i32, unit: i32| DiskShape {
        key,
        unit,
        file: format!("disk-{unit}.vmdk"),
        capacity: CAPACITY,
        uuid: format!("6000C29{unit}-aaaa-bbbb-cccc-0123456789ab"),
        thin: unit == 0,
        ..DiskShape::default()
    };
    peer.shape(&VmShape {
        vm: vm.to_owned(),
        tracking: Some(true),
        tracking_supported: Some(true),
        disks: Some(vec![disk(2000, 0), disk(2001, 1)]),
        ..VmShape::default()
    })
}

/// All pages.
pub(crate) async fn list(client: &Client) -> Result<VmPage, VsphereError> {
    let mut list = client.list_vms().await?;
    let mut all = VmPage::default();
    while let Some(page) = list.next_page().await? {
        all.vms.extend(page.vms);
        all.unreadable.extend(page.unreadable);
    }
    Ok(all)
}

/// One VM that is there.
pub(crate) async fn vm(client: &Client, id: &str) -> Result<Vm> {
    let found = client.vm(&MoRef::vm(id)).await?.context("the VM is gone")?;
    found.map_err(|it| anyhow!("the VM is unreadable: {}", it.reason))
}
