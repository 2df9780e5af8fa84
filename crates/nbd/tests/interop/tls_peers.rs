//! TLS with the tools that everybody uses, as clients of our server and as servers of our client.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use hub_block::{BlockDevice, MemoryDevice};
use hub_nbd::{ClientOptions, ConnectError, Endpoint, NbdClient, ServerOptions, ServerSecurity};
use tokio::process::Child;

use crate::authority::{Authority, NAMES};
use crate::served::{Served, memory, pattern};
use crate::tools::{attempt, present, run, spawn, text};

const MIB: usize = 1 << 20;

fn disk() -> Vec<u8> {
    let mut bytes = pattern(8 * MIB);
    bytes[3 * MIB..5 * MIB].fill(0);
    bytes
}

/// A server that insists on TLS, and its authority laid out in a directory.
async fn required(folder: &Path) -> Result<(Served, Authority)> {
    let authority = Authority::new()?;
    authority.lay_out(folder)?;
    let security = ServerSecurity::Required(authority.server(&NAMES, 4000)?);
    Ok((Served::secured(ServerOptions::default(), security).await?, authority))
}

fn uri(served: &Served, folder: &Path) -> Result<String> {
    Ok(format!("nbds://{}/one?tls-certificates={}", served.addr, text(folder)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_and_nbdcopy_speak_tls_with_our_server() {
    if !present(&["nbdinfo", "nbdcopy"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (served, _authority) = required(folder.path()).await.unwrap();
    let device = memory(8 * MIB);
    let _export = served.offer("one", device.clone()).unwrap();
    let uri = uri(&served, folder.path()).unwrap();
    let json = run("nbdinfo", &["--json", &uri]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["TLS"], &json["protocol"]), (&true.into(), &"newstyle-fixed".into()));
    assert_eq!(json["exports"][0]["export-size"], 8 * MIB);

    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::write(&source, disk()).unwrap();
    let (source, target) = (text(&source).unwrap(), text(&target).unwrap());
    run("nbdcopy", &["--connections=4", "--flush", source, &uri]).await.unwrap();
    assert!(device.snapshot() == disk());
    run("nbdcopy", &["--connections=4", &uri, target]).await.unwrap();
    assert!(std::fs::read(target).unwrap() == disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_in_the_clear_are_told_that_tls_is_required() {
    if !present(&["nbdinfo", "qemu-img"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (served, _authority) = required(folder.path()).await.unwrap();
    let _export = served.offer("one", memory(MIB)).unwrap();
    let info = vec!["info", "-f", "raw"];
    let tools = [("nbdinfo", vec![], "not supported"), ("qemu-img", info, "tls")];
    for (program, arguments, expected) in tools {
        let plain = served.uri("one");
        let refused = attempt(program, &[&arguments[..], &[&plain]].concat()).await.unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).to_lowercase();
        assert!(!refused.status.success() && said.contains(expected), "{program}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_img_converts_and_compares_under_tls() {
    if !present(&["qemu-img"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (served, _authority) = required(folder.path()).await.unwrap();
    let device = Arc::new(MemoryDevice::new(disk()));
    let _export = served.offer("one", device.clone()).unwrap();
    let place = text(folder.path()).unwrap();
    let object = format!("tls-creds-x509,id=hub,endpoint=client,dir={place}");
    let (host, port) = (served.addr.ip(), served.addr.port());
    let image = format!(
        "driver=nbd,server.type=inet,server.host={host},server.port={port},export=one,tls-creds=hub"
    );
    let copy = folder.path().join("copy.qcow2");
    let copy = text(&copy).unwrap();
    let options = ["--object", &object, "--image-opts", &image];
    run("qemu-img", &[&["convert"], &options[..], &["-O", "qcow2", copy]].concat()).await.unwrap();
    let qcow2 = format!("driver=qcow2,file.filename={copy}");
    run("qemu-img", &[&["compare"], &options[..], &[&qcow2]].concat()).await.unwrap();

    // The certificate need not name the address: the tool can be told which name to expect.
    let named = format!("{image},tls-hostname=hub.internal");
    run("qemu-img", &["info", "--object", &object, "--image-opts", &named]).await.unwrap();
    let other = format!("{image},tls-hostname=other.internal");
    let refused = attempt("qemu-img", &["info", "--object", &object, "--image-opts", &other]).await;
    assert!(!refused.unwrap().status.success());
}

async fn use_fully(endpoint: &Endpoint, export: &str, options: ClientOptions) -> Result<()> {
    let client = NbdClient::connect(endpoint, export, options).await?;
    let bytes = Bytes::from(pattern(3 * MIB));
    client.write_at(MIB as u64 + 512, bytes.clone()).await?;
    client.flush().await?;
    anyhow::ensure!(client.read_at(MIB as u64 + 512, 3 << 20).await? == bytes);
    client.extents(0, client.size()).await?;
    client.close().await;
    Ok(())
}

async fn qemu_nbd(folder: &Path, image: &Path) -> Result<(Child, Endpoint)> {
    let socket = folder.join("qemu.sock");
    let object =
        format!("tls-creds-x509,id=tls,endpoint=server,verify-peer=off,dir={}", text(folder)?);
    let arguments = ["--persistent", "-x", "disk", "-k", text(&socket)?, "--shared=4", "-f", "raw"];
    let tls = ["--object", &object, "--tls-creds", "tls", text(image)?];
    let child = spawn("qemu-nbd", &[&arguments[..], &tls].concat(), &socket).await?;
    Ok((child, Endpoint::Unix(socket)))
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_speaks_tls_with_qemu_nbd_and_refuses_what_it_must() {
    if !present(&["qemu-nbd"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let authority = Authority::new().unwrap();
    authority.lay_out_server(folder.path(), 4000).unwrap();
    let (_child, endpoint) = qemu_nbd(folder.path(), &image).await.unwrap();
    use_fully(&endpoint, "disk", authority.client("hub.internal").unwrap()).await.unwrap();

    let connect = async |options| NbdClient::connect(&endpoint, "disk", options).await.unwrap_err();
    let plain = connect(ClientOptions::default()).await;
    assert!(matches!(plain, ConnectError::TlsRequired { .. }), "{plain}");
    let wrong_name = connect(authority.client("other.internal").unwrap()).await;
    assert!(matches!(wrong_name, ConnectError::Untrusted { .. }), "{wrong_name}");
    let stranger = Authority::new().unwrap().client("hub.internal").unwrap();
    let wrong_authority = connect(stranger).await;
    assert!(matches!(wrong_authority, ConnectError::Untrusted { .. }), "{wrong_authority}");
    assert!(wrong_authority.to_string().contains("not signed"), "{wrong_authority}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_speaks_tls_with_nbdkit() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    authority.lay_out_server(folder.path(), 4000).unwrap();
    let socket = folder.path().join("nbdkit.sock");
    let certificates = format!("--tls-certificates={}", text(folder.path()).unwrap());
    let arguments = ["-f", "-U", text(&socket).unwrap(), "--tls=require", &certificates];
    let all = [&arguments[..], &["memory", "8M"]].concat();
    let _child = spawn("nbdkit", &all, &socket).await.unwrap();
    let endpoint = Endpoint::Unix(socket);
    use_fully(&endpoint, "", authority.client("hub.internal").unwrap()).await.unwrap();
    let plain = NbdClient::connect(&endpoint, "", ClientOptions::default()).await.unwrap_err();
    assert!(matches!(plain, ConnectError::TlsRequired { .. }), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_never_falls_back_to_a_server_without_tls() {
    if !present(&["nbdkit"]).unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nbdkit.sock");
    let arguments = ["-f", "-U", text(&socket).unwrap(), "--tls=off", "memory", "1M"];
    let _child = spawn("nbdkit", &arguments, &socket).await.unwrap();
    let options = Authority::new().unwrap().client("hub.internal").unwrap();
    let refused = NbdClient::connect(&Endpoint::Unix(socket), "", options).await.unwrap_err();
    assert!(matches!(refused, ConnectError::TlsRefused { .. }), "{refused}");
}
