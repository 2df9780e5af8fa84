//! Writes the corpora under `fuzz/corpus`: small inputs that the product itself makes or accepts.
//!
//! `cargo run -p hub-hostile-bytes --example seeds -- fuzz/corpus`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hub_block::{BlockDevice, MemoryDevice};
use hub_data_mover::{BlockSize, Digest, ManifestIdentity, ManifestWriter};
use hub_hostile_bytes::network::EXPORT;
use hub_nbd::{ClientOptions, Endpoint, Export, Exports, NbdClient, Server, ServerOptions};
use hub_qcow2::{Backing, CreateOptions, ImageWriter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).map(PathBuf::from).context("name a directory")?;
    let seed = |target: &str, name: &str, bytes: &[u8]| -> Result<()> {
        let directory = root.join(target);
        std::fs::create_dir_all(&directory)?;
        Ok(std::fs::write(directory.join(name), bytes)?)
    };
    let (asked, answered) = talk().await?;
    seed("nbd_server", "session", &asked)?;
    seed("nbd_client", "session", &answered)?;
    let place = tempfile::tempdir()?;
    let plain = CreateOptions { cluster_bits: 9, ..CreateOptions::new(1 << 16) };
    let backing = Some(Backing { name: "full".to_owned(), virtual_size: 1 << 16 });
    let overlay = CreateOptions { backing, ..plain.clone() };
    for (name, options) in [("full", plain), ("overlay", overlay)] {
        seed("qcow2_image", name, &image(&place.path().join(name), options).await?)?;
    }
    for name in ["zlib", "zstd"] {
        seed("qcow2_image", name, &compressed(place.path(), name)?)?;
    }
    seed("manifest", "sealed", &manifest(place.path())?)?;
    seed("vmdk_descriptor", "flat", FLAT.as_bytes())?;
    seed("vmdk_descriptor", "delta", DELTA.as_bytes())?;
    seed("vmdk_file", "sparse", &sparse())?;
    seed("vmx", "machine", VMX.as_bytes())
}

/// What client and server of the product say to each other in one session.
async fn talk() -> Result<(Vec<u8>, Vec<u8>)> {
    let exports = Exports::new();
    let device = Arc::new(MemoryDevice::new(vec![1; 1 << 16]));
    let export = Export { device, description: "a disk".to_owned(), max_connections: 1 };
    let _offered = exports.add(EXPORT.to_owned(), export)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(any, exports, ServerOptions::default()).await?;
    let (target, stop) = (server.local_addr(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(stop.clone()));
    let listener = TcpListener::bind(any).await?;
    let port = listener.local_addr()?.port();
    let (asked, answered) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = (asked.clone(), answered.clone());
    let between = async move {
        let (client, _) = listener.accept().await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = TcpStream::connect(target).await?.into_split();
        let there = tee(from_client, to_server, kept.0);
        let back = tee(from_server, to_client, kept.1);
        let (there, back) = tokio::join!(there, back);
        there.and(back)
    };
    let say = async {
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
        let options = ClientOptions { connections: 1, ..ClientOptions::default() };
        let client = NbdClient::connect(&endpoint, EXPORT, options).await?;
        client.write_at(512, Bytes::from_static(&[7; 512])).await?;
        client.read_at(0, 1024).await?;
        client.write_zeroes(4096, 4096).await?;
        client.extents(0, 1 << 16).await?;
        client.flush().await?;
        client.close().await;
        anyhow::Ok(())
    };
    let (passed, said) = tokio::join!(between, say);
    passed.and(said)?;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    let bytes = |kept: &Mutex<Vec<u8>>| kept.lock().map(|it| it.clone()).unwrap_or_default();
    Ok((bytes(&asked), bytes(&answered)))
}

async fn tee(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    kept: Arc<Mutex<Vec<u8>>>,
) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|it| !it.is_empty()) else { return Ok(()) };
        if let Ok(mut kept) = kept.lock() {
            kept.extend_from_slice(bytes);
        }
        to.write_all(bytes).await?;
    }
}

async fn image(path: &Path, options: CreateOptions) -> Result<Vec<u8>> {
    let image = ImageWriter::create_new(path, options, None)?;
    image.write_at(1024, Bytes::from(vec![3; 1024])).await?;
    image.write_zeroes(8192, 4096).await?;
    image.finish().await?;
    Ok(std::fs::read(path)?)
}

/// The same content in compressed clusters by qemu: the product's own are of a size that no seed should have.
fn compressed(place: &Path, kind: &str) -> Result<Vec<u8>> {
    let (from, to) = (place.join("full"), place.join(kind));
    let options = format!("cluster_size=512,compression_type={kind}");
    let mut qemu = Command::new("qemu-img");
    qemu.args(["convert", "-c", "-O", "qcow2", "-o", &options]).args([&from, &to]);
    ensure!(qemu.status()?.success(), "qemu-img compresses an image");
    Ok(std::fs::read(to)?)
}

fn manifest(place: &Path) -> Result<Vec<u8>> {
    let path = place.join("manifest");
    let size = BlockSize::new(65_536)?;
    let capacity = 5 * 65_536 + 512;
    let writer = ManifestWriter::create_new(&path, capacity, size)?;
    writer.table().set(2, Digest::from_bytes([9; 32]))?;
    writer.seal(ManifestIdentity {
        point_id: "0190a000-0000-7000-8000-000000000001".to_owned(),
        vm_context_id: "0190a000-0000-7000-8000-000000000002".to_owned(),
        vm_name: "a VM".to_owned(),
        vm_id: "vm-1".to_owned(),
        vcenter_host: "host".to_owned(),
        disk_ordinal: 0,
        disk_key: "2000".to_owned(),
        capacity_bytes: capacity,
        block_size: size.get(),
        created_at: "2025-01-01T00:00:00Z".to_owned(),
        backup_type: "full".to_owned(),
        method: "full".to_owned(),
        method_reason: String::new(),
        parent: None,
        image_file: "point.qcow2".to_owned(),
        source_root: None,
        change_id: None,
        image_seal: None,
    })?;
    Ok(std::fs::read(path)?)
}

const FLAT: &str = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
    createType=\"monolithicFlat\"\n\n# Extent description\nRW 2048 FLAT \"disk-flat.vmdk\" 0\n\n\
    ddb.adapterType = \"lsilogic\"\n";

const DELTA: &str = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=12345678\n\
    parentCID=fffffffe\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"disk.vmdk\"\n\
    RW 1024 VMFSSPARSE \"disk-000001-delta.vmdk\"\nRW 1024 ZERO\n";

const VMX: &str = ".encoding = \"UTF-8\"\nvirtualHW.version = \"15\"\ndisplayName = \"a|22b\"\n\
    numvcpus = \"4\"\nmemSize = \"8192\"\n\
    uuid.bios = \"56 4d 01 02 03 04 05 06-07 08 09 0a 0b 0c 0d 0e\"\n\
    scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\nscsi0:0.present = \"TRUE\"\n\
    scsi0:0.deviceType = \"scsi-hardDisk\"\nscsi0:0.fileName = \"disk.vmdk\"\n\
    ethernet0.present = \"TRUE\"\nethernet0.networkName = \"VM Network\"\n";

/// A sparse extent by VMware's "Virtual Disk Format 5.0": header, descriptor, one grain directory with one table.
fn sparse() -> Vec<u8> {
    let mut file = vec![0; 512 * 40];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, b"KDMV");
    put(4, &1_u32.to_le_bytes());
    put(8, &3_u32.to_le_bytes());
    for (at, value) in [(12, 2048_u64), (20, 16), (28, 1), (36, 2), (48, 3), (56, 4), (64, 12)] {
        put(at, &value.to_le_bytes());
    }
    put(44, &512_u32.to_le_bytes());
    put(73, b"\n \r\n");
    let text = FLAT.replace("monolithicFlat", "monolithicSparse");
    let text = text.replace("FLAT \"disk-flat.vmdk\" 0", "SPARSE \"disk.vmdk\"");
    put(512, text.as_bytes());
    put(3 * 512, &4_u32.to_le_bytes());
    put(4 * 512, &16_u32.to_le_bytes());
    put(16 * 512, &[5; 512]);
    file
}
