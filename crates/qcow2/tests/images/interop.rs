//! Images that `qemu-img` made, in every form that people have: read byte for byte as it reads them, checked
//! with its verdict, or refused by the name of what we do not read.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hub_block::{BlockDevice, BlockError};
use hub_qcow2::{check_image, check_with_frame};

use crate::model::{open, require_equal};
use crate::qemu;

/// Not a multiple of any cluster.
const SIZE: usize = (5 << 20) + 1_536;

/// Text, noise and holes, in pieces that no cluster size divides.
fn source() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..SIZE)
        .map(|at| match at / 150_000 % 4 {
            0 => b"The quick brown fox jumps over the lazy dog. "[at % 45],
            1 => noise(),
            2 => 0,
            _ => {
                if at % 3_000 < 40 {
                    noise()
                } else {
                    (at / 700 % 256).to_le_bytes()[0]
                }
            }
        })
        .collect()
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("raw"), source())?;
        Ok(Self { folder })
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Converts the source into an image of these options.
    fn convert(&self, name: &str, options: &str, compressed: bool) -> Result<()> {
        let flags: &[&str] = if compressed { &["-c"] } else { &[] };
        let (from, to) = (self.at("raw"), self.at(name));
        let rest = ["-o", options, "-f", "raw", "-O", "qcow2", &from, &to];
        qemu::img(&[&["convert"], flags, &rest].concat()).map(drop)
    }

    /// An overlay with compressed, plain, zeroed and discarded clusters.
    fn overlay(&self, name: &str, below: &str, options: &str, size: &str) -> Result<()> {
        let path = self.at(name);
        let create = ["create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", "-o", options];
        qemu::img(&[&create[..], &[&path, size]].concat())?;
        self.work(name, &["write -z 0 70k", "write -P 4 100k 3k", "discard 2M 512k"])
    }

    fn work(&self, name: &str, commands: &[&str]) -> Result<()> {
        let commands: Vec<String> = commands.iter().map(|it| (*it).to_owned()).collect();
        qemu::io(Path::new(&self.at(name)), &commands)
    }

    /// Reads an image through its chain, as a whole and in small pieces, and compares it with what qemu reads.
    async fn reads_as_qemu_reads(&self, name: &str) -> Result<()> {
        let raw = self.at("expected");
        qemu::img(&["convert", "-f", "qcow2", "-O", "raw", &self.at(name), &raw])?;
        let expected = std::fs::read(&raw)?;
        let reader = open(self.folder.path(), name)?;
        require_equal(&reader, &expected).await.with_context(|| name.to_owned())?;
        for at in (0..expected.len()).step_by(4096) {
            let len = (expected.len() - at).min(4096);
            let part = reader.read_at(at as u64, u32::try_from(len)?).await?;
            ensure!(part == expected[at..at + len], "other bytes at {at} of {name}");
        }
        Ok(())
    }

    /// Our check is clean where qemu's is, and counts what there is.
    fn checks_as_qemu_checks(&self, name: &str, compressed: bool) -> Result<()> {
        let clean = qemu::img(&["check", "-q", "-f", "qcow2", &self.at(name)]).is_ok();
        let (report, frame) = check_with_frame(&self.path(name))?;
        ensure!(report.is_clean() == clean, "{name}: qemu says {clean}, we {report:?}");
        ensure!(report.data_clusters >= report.compressed_clusters, "{report:?}");
        ensure!((report.compressed_clusters > 0) == compressed, "{name}: {report:?}");
        ensure!(frame.file_bytes() == report.file_bytes, "{name}");
        Ok(())
    }
}

#[tokio::test]
async fn every_cluster_size_is_read_plain_and_compressed() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    for size in ["512", "4k", "64k", "128k", "256k", "512k", "1M", "2M"] {
        for compression in [None, Some("zlib"), Some("zstd")] {
            let name = format!("{size}-{}", compression.unwrap_or("plain"));
            let kind = compression.unwrap_or("zlib");
            let options = format!("cluster_size={size},compression_type={kind}");
            bench.convert(&name, &options, compression.is_some()).unwrap();
            bench.reads_as_qemu_reads(&name).await.unwrap();
            bench.checks_as_qemu_checks(&name, compression.is_some()).unwrap();
        }
    }
}

#[tokio::test]
async fn every_way_to_make_an_image_is_read() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    let mut options = vec![
        "compat=0.10".to_owned(),
        "compat=0.10,cluster_size=2M".to_owned(),
        "lazy_refcounts=on".to_owned(),
    ];
    let modes = ["off", "metadata", "falloc", "full"];
    options.extend(modes.map(|it| format!("preallocation={it}")));
    options.extend([1, 2, 4, 8, 32, 64].map(|it| format!("refcount_bits={it}")));
    for options in options {
        let name = options.replace(['=', ',', '.'], "-");
        bench.convert(&name, &options, false).unwrap();
        bench.reads_as_qemu_reads(&name).await.unwrap();
        bench.checks_as_qemu_checks(&name, false).unwrap();
    }
    // An image that was made without content, in every mode.
    for mode in modes {
        let (name, options) = (format!("empty-{mode}"), format!("preallocation={mode}"));
        let path = bench.at(&name);
        qemu::img(&["create", "-q", "-f", "qcow2", "-o", &options, &path, "3000k"]).unwrap();
        bench.work(&name, &["write -P 7 1000k 100k", "write -z 1500k 64k"]).unwrap();
        bench.reads_as_qemu_reads(&name).await.unwrap();
        bench.checks_as_qemu_checks(&name, false).unwrap();
    }
}

#[tokio::test]
async fn chains_of_every_kind_are_read_also_where_disks_changed_their_size() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    bench.convert("a", "compression_type=zstd", true).unwrap();
    bench.overlay("b", "a", "compression_type=zlib,cluster_size=128k", "7M").unwrap();
    bench.work("b", &["write -c -P 9 4M 128k", "write -c -P 8 4352k 128k"]).unwrap();
    bench.overlay("c", "b", "compression_type=zstd", "4000k").unwrap();
    bench.work("c", &["write -c -P 3 1M 64k", "write -c -P 5 1088k 64k"]).unwrap();
    bench.overlay("d", "c", "compat=0.10", "6M").unwrap();
    for name in ["b", "c", "d"] {
        bench.reads_as_qemu_reads(name).await.unwrap();
        bench.checks_as_qemu_checks(name, name != "d").unwrap();
    }
    let (grown, shrunk) = (bench.at("d"), bench.at("c2"));
    qemu::img(&["resize", "-q", "-f", "qcow2", &grown, "9M"]).unwrap();
    bench.work("d", &["write -P 6 8M 100k"]).unwrap();
    std::fs::copy(bench.at("c"), &shrunk).unwrap();
    qemu::img(&["resize", "-q", "-f", "qcow2", "--shrink", &shrunk, "1M"]).unwrap();
    for name in ["d", "c2"] {
        bench.reads_as_qemu_reads(name).await.unwrap();
        bench.checks_as_qemu_checks(name, false).unwrap();
    }
}

/// Once it is unpacked for a part of it, a cluster is not looked at again for the other parts.
#[tokio::test]
async fn small_reads_of_a_cluster_unpack_it_once() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    for kind in ["zlib", "zstd"] {
        bench.convert(kind, &format!("compression_type={kind}"), true).unwrap();
        let reader = open(bench.folder.path(), kind).unwrap();
        let source = source();
        assert_eq!(reader.read_at(0, 4096).await.unwrap(), source[..4096]);
        // Every compressed byte is gone behind the reader's back.
        let path = bench.path(kind);
        let len = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0xFF; usize::try_from(len).unwrap() - 5 * 65_536], 5 * 65_536)
            .unwrap();
        for at in (0..65_536_u32).step_by(4096) {
            let start = usize::try_from(at).unwrap();
            let part = reader.read_at(u64::from(at), 4096).await.unwrap();
            assert_eq!(part, source[start..start + 4096], "{kind} at {at}");
        }
        let whole = reader.read_at(0, 65_536).await;
        assert!(matches!(&whole, Err(BlockError::Corrupt { what, .. }) if what.contains(kind)));
    }
}

/// The active state of an image with internal snapshots is read; its refcounts are not judged.
#[tokio::test]
async fn internal_snapshots_are_read_past_and_not_checked() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    bench.convert("image", "compression_type=zstd", true).unwrap();
    for tag in ["one", "two"] {
        qemu::img(&["snapshot", "-c", tag, &bench.at("image")]).unwrap();
        bench.work("image", &["write -P 3 90k 1000k", "write -z 3M 300k"]).unwrap();
    }
    bench.reads_as_qemu_reads("image").await.unwrap();
    let refused = check_image(&bench.path("image")).unwrap_err().to_string();
    assert!(refused.contains("checking an internal snapshot is not supported"), "{refused}");
}

/// An image that was not closed may have stale refcounts; what it holds is read.
#[tokio::test]
async fn an_image_that_was_not_closed_is_read() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    bench.convert("image", "lazy_refcounts=on", false).unwrap();
    let killed = bench.work("image", &["write -P 3 400k 500k", "flush", "abort"]);
    assert!(killed.is_err(), "qemu-io was to die in the middle");
    let dirty = std::fs::read(bench.path("image")).unwrap()[79];
    assert_eq!(dirty & 1, 1, "the image was closed after all");
    let (aside, raw) = (bench.at("aside"), source());
    std::fs::copy(bench.at("image"), &aside).unwrap();
    // Reading it, qemu would repair it first, so its answer comes from the copy.
    qemu::img(&["check", "-q", "-r", "all", "-f", "qcow2", &aside]).unwrap();
    let mut expected = raw;
    expected[400 << 10..900 << 10].fill(3);
    for name in ["image", "aside"] {
        let reader = open(bench.folder.path(), name).unwrap();
        require_equal(&reader, &expected).await.unwrap();
    }
    assert!(check_image(&bench.path("aside")).unwrap().is_clean());
}

#[tokio::test]
async fn what_we_do_not_read_is_refused_by_name() {
    if !qemu::available() {
        return;
    }
    let bench = Bench::new().unwrap();
    let secret = ["--object", "secret,id=key,data=1234"];
    let (external, raw) = (bench.at("data"), bench.at("raw"));
    for (name, options, told) in [
        ("extended", "extended_l2=on".to_owned(), "extended L2 entries are not supported"),
        ("external", format!("data_file={external}"), "an external data file is not supported"),
        (
            "encrypted",
            "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10".to_owned(),
            "encryption is not supported",
        ),
        ("over-raw", format!("backing_file={raw},backing_fmt=raw"), "backing file as \"raw\""),
    ] {
        let path = bench.at(name);
        let create = ["create", "-q", "-f", "qcow2", "-o", &options, &path, "1M"];
        qemu::img(&[&create[..1], &secret[..], &create[1..]].concat()).unwrap();
        let refused = open(bench.folder.path(), name).err().unwrap().to_string();
        assert!(refused.contains(told) && refused.contains(name), "{refused}");
        if name != "over-raw" {
            let refused = check_image(&bench.path(name)).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
    }
}
