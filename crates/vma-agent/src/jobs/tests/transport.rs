//! Whom a copy is sent to: the hub that the VMA keeps, over TLS, and nobody else.

use std::sync::Arc;

use anyhow::Result;
use hub_block::{BlockDevice, MemoryDevice};
use hub_nbd::{ServerSecurity, ServerTls, fingerprint};
use hub_vma_api::{CopyDisk, CopyReport, CopyState, NbdTarget, NbdTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::doubles::{Hub, MemorySource, copying, ended, full_disk, memory};
use crate::fixture::content;
use crate::hub_pin::HubPin;
use crate::jobs::{Jobs, JobsOptions, StartError};

const NAME: &str = "hub.internal";

/// Who vouches for a hub.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    fn shown_for(&self, name: &str) -> Result<ServerTls> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(ServerTls::from_pem(&certificate, &key.serialize_pem())?)
    }

    /// The order to send a disk over TLS to a hub with this authority.
    fn ordered(&self, target: NbdTarget) -> Result<NbdTarget> {
        let authority = fingerprint(&self.issuer.pem())?;
        let tls = Some(NbdTls { server_name: NAME.to_owned(), authority });
        Ok(NbdTarget { tls, ..target })
    }

    /// Jobs of a VMA that keeps this hub.
    fn jobs(&self) -> Result<Jobs> {
        let hub = Arc::new(HubPin::default());
        hub.pin(&self.issuer.pem())?;
        Ok(jobs_of(hub))
    }
}

fn jobs_of(hub: Arc<HubPin>) -> Jobs {
    let disk = memory(content(1)) as Arc<dyn BlockDevice>;
    let source = MemorySource::with(vec![("disk-2000", disk)]);
    let options = JobsOptions { hub, ..JobsOptions::default() };
    Jobs::new(Arc::new(source), options, CancellationToken::new())
}

fn disk(target: NbdTarget) -> CopyDisk {
    full_disk("disk-2000", content(1).len(), target)
}

fn code(report: &CopyReport) -> &str {
    report.disks[0].error.as_ref().map_or("", |it| it.code.as_str())
}

/// A server with one export, the device behind it, and the order that leads there.
async fn offering(security: ServerSecurity) -> Result<(Hub, Arc<MemoryDevice>, NbdTarget)> {
    let mut hub = Hub::secured(security).await?;
    let image = memory(vec![0; content(1).len()]);
    let target = hub.offer("disk", image.clone())?;
    Ok((hub, image, target))
}

#[tokio::test]
async fn a_copy_and_its_parent_go_over_tls_to_the_hub_that_is_kept() {
    let authority = Authority::new().unwrap();
    let security = ServerSecurity::Required(authority.shown_for(NAME).unwrap());
    let (mut hub, image, target) = offering(security).await.unwrap();
    let mut parent = hub.parent(&content(1)).await.unwrap();
    parent.target = authority.ordered(parent.target).unwrap();
    let jobs = authority.jobs().unwrap();
    let by_digest = CopyDisk { parent: Some(parent), ..disk(authority.ordered(target).unwrap()) };
    let full = CopyDisk { parent: None, ..by_digest.clone() };
    jobs.start(copying("full", vec![full])).await.unwrap();
    assert_eq!(ended(&jobs, "full").await.unwrap().state, CopyState::Succeeded);
    assert!(image.snapshot() == content(1));
    let by_digest = CopyDisk { method: hub_vma_api::CopyMethod::ByDigest, ..by_digest };
    jobs.start(copying("digest", vec![by_digest])).await.unwrap();
    let report = ended(&jobs, "digest").await.unwrap();
    assert_eq!((report.state, report.disks[0].bytes_sent), (CopyState::Succeeded, 0));
}

/// Whoever answers at the hub's address in the hub's place is told neither the name of the export nor a byte of a disk.
#[tokio::test]
async fn whoever_cannot_prove_to_be_the_hub_gets_nothing() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let cases = [
        // Somebody in between, with an authority of his own; then with the hub's certificate for something else.
        (ServerSecurity::Required(stranger.shown_for(NAME).unwrap()), "target/untrusted"),
        (ServerSecurity::Required(authority.shown_for("other").unwrap()), "target/untrusted"),
        // Somebody who takes TLS out of what passes.
        (ServerSecurity::Plain, "target/tls-refused"),
    ];
    for (security, expected) in cases {
        let (hub, image, target) = offering(security).await.unwrap();
        let (target, mut recorder) = recorded(target).await.unwrap();
        let jobs = authority.jobs().unwrap();
        let order = authority.ordered(target).unwrap();
        jobs.start(copying("job", vec![disk(order)])).await.unwrap();
        let report = ended(&jobs, "job").await.unwrap();
        assert_eq!((report.state, code(&report)), (CopyState::Failed, expected));
        assert_eq!((hub.sessions("disk"), report.disks[0].bytes_sent), (0, 0));
        assert!(image.snapshot().iter().all(|it| *it == 0));
        let heard = recorder.join_next().await.unwrap().unwrap().unwrap();
        assert!(!heard.is_empty() && !heard.windows(4).any(|it| it == b"disk"), "{heard:?}");
    }
}

/// Passes one connection on, and answers what the client said.
async fn recorded(target: NbdTarget) -> Result<(NbdTarget, JoinSet<Result<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = NbdTarget { port: listener.local_addr()?.port(), ..target.clone() };
    let mut recorder = JoinSet::new();
    recorder.spawn(async move {
        let (mut near, _) = listener.accept().await?;
        let mut far = TcpStream::connect((target.host.as_str(), target.port)).await?;
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
        let forth = async {
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            // A reset is a way to hang up.
            while let Ok(len @ 1..) = near_in.read(&mut buffer).await {
                heard.extend_from_slice(&buffer[..len]);
                let passed_on = far_out.write_all(&buffer[..len]).await;
                if passed_on.is_err() {
                    break;
                }
            }
            // An error matters to nobody when the server has hung up already.
            let _ = far_out.shutdown().await;
            heard
        };
        let back = tokio::io::copy(&mut far_in, &mut near_out);
        let (heard, _) = tokio::join!(forth, back);
        Ok(heard)
    });
    Ok((here, recorder))
}

#[tokio::test]
async fn an_order_for_another_hub_or_in_the_clear_is_refused_before_anything_is_opened() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let security = ServerSecurity::Required(other.shown_for(NAME).unwrap());
    let (mut hub, _image, target) = offering(security).await.unwrap();
    let far = NbdTarget { host: "192.0.2.1".to_owned(), ..target.clone() };
    let mut parent = hub.parent(&content(1)).await.unwrap();
    parent.target = other.ordered(parent.target).unwrap();
    let with_parent = CopyDisk {
        method: hub_vma_api::CopyMethod::ByDigest,
        parent: Some(parent),
        ..disk(authority.ordered(target.clone()).unwrap())
    };
    let ordered = disk(other.ordered(target).unwrap());
    let nobody = || Ok(jobs_of(Arc::default()));
    for (jobs, disk, expected) in [
        (authority.jobs(), ordered.clone(), "target/other-hub"),
        (authority.jobs(), with_parent, "target/other-hub"),
        (authority.jobs(), disk(far), "target/plain-refused"),
        (nobody(), ordered, "target/hub-unknown"),
    ] {
        let refused = jobs.unwrap().start(copying("job", vec![disk])).await.unwrap_err();
        assert!(
            matches!(&refused, StartError::Target(fault) if fault.code == expected),
            "{expected}: {refused:?}"
        );
    }
    assert_eq!(hub.sessions("disk"), 0);
}
