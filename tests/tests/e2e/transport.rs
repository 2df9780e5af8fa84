//! Disks on their way over a network that others can read: what crosses it, and who is believed.

mod recorder;

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::{Api, Fields as _};
use hub_tests::datastore::{Content, DiskSpec, Subformat, VmSpec, noise};
use hub_tests::judge::{Image, file_digest};
use hub_tests::lab::{Lab, Surroundings};
use hub_tests::processes::{Hub, HubOptions, Lifetime};
use hub_tests::tool;
use serde_json::{Value, json};

use recorder::Recorder;

const MIB: u64 = 1 << 20;
const SEED: u64 = 29;

/// An address of this machine that is not loopback; a test without one skips loudly, or fails where it is required.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn own_address() -> Result<Option<IpAddr>> {
    // Nothing is sent: connecting a datagram socket only asks for the route.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let route = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    if let Ok(address) = route
        && !address.ip().is_loopback()
    {
        return Ok(Some(address.ip()));
    }
    let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
    ensure!(!required, "this machine has no address but loopback");
    eprintln!("SKIPPED: this machine has no address but loopback");
    Ok(None)
}

/// A lab whose hub tells its VMAs this address.
async fn lab_at(address: IpAddr, listen: &str, plain: &str) -> Result<Option<Lab>> {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let surroundings = Surroundings {
        hub: vec![
            set("HUB__NBD__LISTEN", listen),
            set("HUB__NBD__ADVERTISE_HOST", &address.to_string()),
            set("HUB__NBD__PLAIN", plain),
        ],
        vma: vec![set("VMA__NBD__PLAIN", plain)],
    };
    Lab::start_in(DatabaseKind::Sqlite, surroundings).await
}

/// A registered VMA and a VM with 8 MiB of noise, under management.
async fn with_vm(lab: &Lab) -> Result<(String, PathBuf)> {
    lab.register().await?;
    let disk = DiskSpec {
        capacity: 16 * MIB,
        subformat: Subformat::MonolithicFlat,
        content: Content::Noise { seed: SEED, areas: vec![MIB..5 * MIB, 5 * MIB..9 * MIB] },
    };
    let vm = lab.datastore.add_vm(&VmSpec::new("secretive", vec![disk]))?;
    lab.add(&["secretive"]).await?;
    Ok((lab.repository().await?, vm.disk(0)?.top()))
}

async fn back_up(lab: &Lab, repository: &str, backup_type: &str) -> Result<Value> {
    let body =
        json!({"vm_name": "secretive", "backup_type": backup_type, "repository_id": repository});
    let run = lab.api.run("/backups", &body).await?;
    run.list("/backups")?.pop().context("one disk, one backup")
}

#[tokio::test]
async fn beyond_loopback_a_backup_and_its_export_go_over_tls() {
    let Some(own) = own_address().unwrap() else { return };
    let Some(lab) = lab_at(own, &format!("{own}:0"), "loopback").await.unwrap() else { return };
    let part = async {
        let (repository, source) = with_vm(&lab).await?;
        let backup = back_up(&lab, &repository, "full").await?;
        ensure!(backup.flag("/proof/agrees")?, "{backup:#}");
        // The digests of the parent come over TLS as well.
        let next = back_up(&lab, &repository, "incremental").await?;
        ensure!(next.text("/status")? == "succeeded", "{next:#}");
        let body = json!({"backup_id": backup.text("/backup_id")?});
        let export = lab.api.post("/exports", &body).await?.ok()?;
        let uri = export.text("/nbd_uri")?;
        ensure!(uri.starts_with("nbds://"), "{uri}");
        ensure!(export.text("/ca_sha256")? == authority(&lab)?, "{export:#}");
        read_by_recipe(&lab, &export, &source).await?;
        let plain = uri.replace("nbds://", "nbd://");
        ensure!(tool::run("nbdinfo", &[&plain]).is_err(), "the hub spoke in the clear");
        keys_are_told_nobody(&lab, &[export.to_string()])?;
        lab.check_logs()
    };
    part.await.with_context(|| said(&lab)).unwrap();
}

/// The recipe of the operations page: the certificate from the hub, compared, and two tools that check the hub by it.
async fn read_by_recipe(lab: &Lab, export: &Value, source: &Path) -> Result<()> {
    let place = lab.folder().join("pki");
    std::fs::create_dir(&place)?;
    let pem = lab.api.get("/certificates/nbd-ca.pem").await?;
    ensure!(pem.text.contains("BEGIN CERTIFICATE"), "{}", pem.text);
    ensure!(!pem.text.contains("PRIVATE KEY"), "the hub gives its key away");
    std::fs::write(place.join("ca-cert.pem"), &pem.text)?;
    let digest = openssl_fingerprint(&place.join("ca-cert.pem"))?;
    ensure!(digest == export.text("/ca_sha256")?, "{digest}: {export:#}");
    let (uri, place) = (export.text("/nbd_uri")?, place.display().to_string());
    let copy = lab.folder().join("copy.raw");
    let with_place = format!("{uri}?tls-certificates={place}");
    tool::run("nbdinfo", &[&with_place])?;
    tool::run("nbdcopy", &[&with_place, &copy.display().to_string()])?;
    Image::new(source, "vmdk").compare(Image::new(&copy, "raw"))?;

    let rest = uri.trim_start_matches("nbds://");
    let (address, name) = rest.split_once('/').context("no name in the URI")?;
    let (host, port) = address.rsplit_once(':').context("no port in the URI")?;
    let image = format!(
        "driver=nbd,server.type=inet,server.host={host},server.port={port},export={name},tls-creds=hub"
    );
    let object = format!("tls-creds-x509,id=hub,endpoint=client,dir={place}");
    let again = lab.folder().join("again.raw").display().to_string();
    let convert = ["convert", "--object", &object, "--image-opts", &image, "-O", "raw", &again];
    tool::run("qemu-img", &convert)?;
    // Under an address that the certificate does not name, a tool can be told which name to expect.
    let named = format!("{image},tls-hostname=localhost");
    tool::run("qemu-img", &["info", "--object", &object, "--image-opts", &named])?;
    ensure!(file_digest(Path::new(&again))? == file_digest(&copy)?, "qemu-img reads other bytes");
    Ok(())
}

/// Keys are in their files, which only their owner can read, and neither in a log nor in an answer.
fn keys_are_told_nobody(lab: &Lab, answers: &[String]) -> Result<()> {
    let place = lab.hub.data_dir().join("nbd-tls");
    ensure!(std::fs::metadata(&place)?.permissions().mode() & 0o777 == 0o700);
    let told = [answers, &[lab.hub.program.log()?, lab.vma.program.log()?, said(lab)]].concat();
    for name in ["ca.key", "server.pem"] {
        let path = place.join(name);
        ensure!(std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600, "{name}");
        let text = std::fs::read_to_string(&path)?;
        let (_, key) = text.split_once("PRIVATE KEY-----\n").context("no key")?;
        let line = key.lines().next().context("an empty key")?;
        ensure!(!told.iter().any(|it| it.contains(line) || it.contains("PRIVATE KEY")), "{name}");
    }
    Ok(())
}

fn openssl_fingerprint(certificate: &Path) -> Result<String> {
    let path = certificate.display().to_string();
    let said = tool::run("openssl", &["x509", "-noout", "-fingerprint", "-sha256", "-in", &path])?;
    let (_, digest) = said.trim().split_once('=').context("openssl says no digest")?;
    Ok(digest.replace(':', "").to_lowercase())
}

fn authority(lab: &Lab) -> Result<String> {
    lab.hub.program.line("NBD authority (SHA-256): ")
}

fn said(lab: &Lab) -> String {
    format!("{}\n{}", lab.vma.program.tail(), lab.hub.program.tail())
}

/// What somebody on the wire sees of a backup: whether it is the disk, and whether it is the name of an export.
async fn seen_on_the_wire(plain: &str) -> Result<Option<(bool, u64)>> {
    let Some(own) = own_address()? else { return Ok(None) };
    let Some(lab) = lab_at(own, "127.0.0.1:0", plain).await? else { return Ok(None) };
    let port = lab.hub.nbd.rsplit_once(':').context("no port")?.1.parse()?;
    // The hub listens on loopback; what it calls its address is the recorder's.
    let recorder = Recorder::between((own, port).into(), lab.hub.nbd.parse()?).await?;
    let part = async {
        let (repository, _) = with_vm(&lab).await?;
        let backup = back_up(&lab, &repository, "full").await?;
        ensure!(backup.flag("/proof/agrees")?, "{backup:#}");
        Ok(())
    };
    part.await.with_context(|| said(&lab))?;
    let bytes = recorder.bytes();
    ensure!(bytes.len() as u64 > 8 * MIB, "the copy went past the recorder: {}", bytes.len());
    let disk = noise(SEED, usize::try_from(16 * MIB)?);
    let first = usize::try_from(MIB)?;
    // Four places of 32 bytes, spread over the noise.
    let seen = (0..4).any(|it| {
        let at = first + it * 2 * first + 4096;
        let piece = disk.get(at..at + 32).unwrap_or_default();
        bytes.windows(32).any(|window| window == piece)
    });
    Ok(Some((seen, bytes.len() as u64)))
}

#[tokio::test]
async fn nobody_on_the_wire_sees_the_disk() {
    let Some((seen, _)) = seen_on_the_wire("loopback").await.unwrap() else { return };
    assert!(!seen, "bytes of the disk crossed the network in the clear");
}

/// The same with both ends told to speak in the clear: the recorder would have seen it.
#[tokio::test]
async fn told_so_at_both_ends_a_disk_goes_in_the_clear() {
    let Some((seen, _)) = seen_on_the_wire("everywhere").await.unwrap() else { return };
    assert!(seen, "the recorder does not see what crosses it");
}

#[tokio::test]
async fn a_vma_stays_with_its_hub_until_it_is_told_to_forget_it() {
    let Some(own) = own_address().unwrap() else { return };
    let Some(mut lab) = lab_at(own, &format!("{own}:0"), "loopback").await.unwrap() else { return };
    let part = async |lab: &mut Lab| {
        let (repository, _) = with_vm(lab).await?;
        // Somebody who has read the token sets up a hub.
        let other = Hub::start(HubOptions {
            data_dir: lab.folder().join("other-hub"),
            database_url: None,
            logs: lab.folder().join("other-logs"),
            environment: Vec::new(),
            lifetime: Lifetime::Owned,
        });
        let other = other.await?;
        let body = json!({"name": "mine", "url": lab.vma.url, "token": lab.vma.token});
        let refused = Api::new(&other.url, &other.token)?.post("/vma-nodes", &body).await?;
        let refused = refused.refused(409, "vma/other-hub")?;
        ensure!(refused.text("/detail")?.contains("--forget-hub"), "{refused:#}");

        // The hub loses its authority, and makes another one at its next start.
        lab.hub.program.kill()?;
        std::fs::remove_dir_all(lab.hub.data_dir().join("nbd-tls"))?;
        lab.hub.restart().await?;
        let body =
            json!({"vm_name": "secretive", "backup_type": "full", "repository_id": repository});
        let run = lab.api.start("/backups", &body).await?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        let fault = ended.list("/backups")?.pop().context("one backup")?.text("/error/code")?;
        ensure!(fault == "target/other-hub", "{ended:#}");

        lab.vma.program.kill()?;
        lab.vma.forget_hub()?;
        lab.vma.restart().await?;
        let node = lab.api.all("/vma-nodes").await?.pop().context("one VMA")?.text("/id")?;
        lab.api.post(&format!("/vma-nodes/{node}/test"), &json!({})).await?.ok()?;
        let backup = back_up(lab, &repository, "full").await?;
        ensure!(backup.flag("/proof/agrees")?, "{backup:#}");
        Ok(())
    };
    let outcome = part(&mut lab).await;
    outcome.with_context(|| said(&lab)).unwrap();
}
