//! Chains: our own of many depths and sizes, those of `qemu-img`, and those that must not be followed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, ExtentKind};
use hub_qcow2::{Escapes, ImageInfo, ImageReader, ImageWriter, InsideDirectory, OpenError};
use proptest::prelude::*;

use crate::model::{
    Batch, batches, make_image, open, overlay, perform_all, require_equal, run_case, standalone,
};
use crate::qemu;

/// One image of a chain: by how many sectors it is larger than the one below, its clusters, its content.
type LayerPlan = (usize, u32, Vec<Batch>);

fn chain() -> impl Strategy<Value = Vec<LayerPlan>> {
    let layer = (1_usize..120, prop_oneof![Just(9_u32), Just(12), Just(16)]);
    let layer = layer.prop_flat_map(|(grows, bits)| {
        // Positions are parts of this scale, because the size is known only when the chain is built.
        (Just(grows), Just(bits), batches(SCALE, 1 << bits))
    });
    proptest::collection::vec(layer, 2..13)
}

const SCALE: usize = 1 << 20;

/// A position on a disk of `len` bytes; what was aligned to clusters stays so.
fn place(position: usize, len: usize, bits: u32) -> usize {
    let scaled = position * len / SCALE;
    if position.is_multiple_of(1 << bits) && position < SCALE {
        scaled >> bits << bits
    } else {
        scaled
    }
}

/// Traps U22 and C22: chains of twelve, with disks that grow between the runs.
async fn build_chain(plan: Vec<LayerPlan>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut model: Vec<u8> = Vec::new();
    let mut below: Option<(String, Arc<dyn BlockDevice>)> = None;
    let depth = plan.len();
    for (number, (grows, bits, mut work)) in plan.into_iter().enumerate() {
        let grows = if number % 3 == 2 { 0 } else { grows };
        model.resize((model.len() + grows * 512).max(512), 0);
        for batch in &mut work {
            let mut free_from = 0;
            for it in batch {
                it.start = place(it.start, model.len(), bits).max(free_from);
                it.end = place(it.end, model.len(), bits).max(it.start);
                free_from = it.end;
            }
        }
        let (size, name) = (model.len() as u64, format!("{number}.qcow2"));
        let (options, device) = match below.take() {
            None => (standalone(size, bits), None),
            Some((name, device)) => (overlay(size, bits, &name, device.size()), Some(device)),
        };
        let path = folder.path().join(&name);
        let writer = Arc::new(ImageWriter::create_new(&path, options, device)?);
        let device: Arc<dyn BlockDevice> = writer.clone();
        require_equal(&*writer, &model).await?;
        perform_all(&device, &mut model, &work).await?;
        require_equal(&*writer, &model).await?;
        writer.finish().await?;
        qemu::require_clean(&path)?;
        let reader = open(folder.path(), &name)?;
        anyhow::ensure!(reader.depth() == number + 1, "the depth is {}", reader.depth());
        require_equal(&reader, &model).await?;
        below = Some((name, Arc::new(reader)));
    }
    qemu::require_content(&folder.path().join(format!("{}.qcow2", depth - 1)), &model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn chains_hold_what_was_written(plan in chain()) {
        run_case(build_chain(plan))?;
    }
}

/// A thread that may block is answered as everybody else is.
#[tokio::test]
async fn the_face_for_blocking_threads_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let model: Vec<u8> = (0..200_192_u32).map(|at| (at % 239).to_le_bytes()[0]).collect();
    make_image(&folder.path().join("full"), 12, &model).await.unwrap();
    let reader = Arc::new(open(folder.path(), "full").unwrap());
    let now = reader.blocking().unwrap();
    assert_eq!(now.read_now(4_000, 150_000).unwrap().unwrap(), model[4_000..154_000]);
    let beyond = now.read_now(200_000, 193).unwrap();
    assert!(matches!(beyond, Err(BlockError::OutOfRange { .. })), "{beyond:?}");
    assert!(matches!(now.write_now(0, &[1]), Some(Err(BlockError::ReadOnly))));
}

/// A middle image that is smaller hides what lies beyond its end, even when a larger one stands on it.
#[tokio::test]
async fn a_smaller_image_in_the_middle_hides_what_is_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    make_image(&folder.path().join("full.qcow2"), 16, &[5; 300_032]).await.unwrap();
    let mut below = 300_032;
    for (name, named, size) in [("middle", "full", 100_352), ("top", "middle", 250_880)] {
        let options = overlay(size, 16, &format!("{named}.qcow2"), below);
        let path = folder.path().join(format!("{name}.qcow2"));
        ImageWriter::create_new(&path, options, None).unwrap().finish().await.unwrap();
        below = size;
    }
    let mut model = vec![0; 250_880];
    model[..100_352].fill(5);
    require_equal(&open(folder.path(), "top.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_content(&folder.path().join("top.qcow2"), &model).unwrap();
}

#[tokio::test]
async fn without_a_reader_for_the_backing_only_whole_clusters_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = vec![5; 4 * 65_536 + 512];
    make_image(&folder.path().join("full.qcow2"), 16, &model).await.unwrap();
    let size = model.len() as u64;
    let path = folder.path().join("top.qcow2");
    let writer = ImageWriter::create_new(&path, overlay(size, 16, "full.qcow2", size), None);
    let writer = writer.unwrap();
    let partial = writer.write_at(100, Bytes::from_static(b"part")).await;
    assert!(matches!(partial, Err(BlockError::Unsupported(_))));
    assert!(matches!(writer.read_at(0, 512).await, Err(BlockError::Unsupported(_))));
    writer.write_at(65_536, Bytes::from(vec![0; 65_536])).await.unwrap();
    writer.write_at(4 * 65_536, Bytes::from(vec![6; 512])).await.unwrap();
    assert_eq!(writer.read_at(65_536, 9).await.unwrap(), vec![0; 9]);
    assert_eq!(writer.extents(0, 65_536).await.unwrap()[0].kind, ExtentKind::Data);
    writer.finish().await.unwrap();
    model[65_536..131_072].fill(0);
    model[4 * 65_536..].fill(6);
    require_equal(&open(folder.path(), "top.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
    qemu::require_content(&path, &model).unwrap();
    let info = ImageInfo::read(&path).unwrap();
    assert_eq!(info.backing_name.as_deref(), Some("full.qcow2"));
    assert_eq!((info.virtual_size, info.cluster_bits), (size, 16));
}

/// Images that `qemu-img` and `qemu-io` made, three deep, grown on the way, in all usual cluster sizes.
#[tokio::test]
async fn images_of_other_tools_are_read() {
    if !qemu::available() {
        return;
    }
    for (cluster, compat) in
        [("64k", "1.1"), ("64k", "0.10"), ("256k", "1.1"), ("2M", "1.1"), ("512", "1.1")]
    {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        let create = |name: &str, backing: Option<&str>, size: &str| {
            let options = format!("cluster_size={cluster},compat={compat}");
            let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", &options];
            if let Some(backing) = backing {
                arguments.extend(["-b", backing, "-F", "qcow2"]);
            }
            let path = text(name);
            arguments.extend([path.as_str(), size]);
            qemu::img(&arguments).unwrap();
        };
        let work = |name: &str, commands: &[&str]| {
            let commands: Vec<String> = commands.iter().map(|it| (*it).to_owned()).collect();
            qemu::io(&at(name), &commands).unwrap();
        };
        create("a", None, "5000192");
        work("a", &["write -P 1 0 1000k", "write -P 2 3000k 512", "write -P 3 4999680 512"]);
        create("b", Some("a"), "6M");
        work("b", &["write -z 0 70k", "write -P 4 100k 3k", "write -P 5 5100k 200k"]);
        create("c", Some("b"), "6M");
        work("c", &["discard 512k 256k", "write -P 6 4882k 5k", "write -z 5100k 64k"]);
        qemu::img(&["convert", "-f", "qcow2", "-O", "raw", &text("c"), &text("raw")]).unwrap();
        let model = std::fs::read(at("raw")).unwrap();
        let reader = open(folder.path(), "c").unwrap();
        assert_eq!(reader.depth(), 3);
        require_equal(&reader, &model).await.unwrap();
        for name in ["a", "b", "c"] {
            assert!(hub_qcow2::check_image(&at(name)).unwrap().is_clean(), "{name} {cluster}");
        }
    }
}

/// Makes an image over a backing name, unless it is there, and returns why it cannot be opened.
async fn refused(folder: &Path, name: &str, backing: &str) -> anyhow::Result<OpenError> {
    let path = folder.join(name);
    if !path.exists() {
        let options = overlay(512, 16, backing, 512);
        ImageWriter::create_new(&path, options, None)?.finish().await?;
    }
    let error = open(folder, name).err().context("the chain was opened")?;
    error.downcast()
}

/// Chain surgery: missing, cyclic, escaping and endless chains are refused, each with a reason.
#[tokio::test]
async fn chains_that_must_not_be_followed_are_refused() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("repository");
    std::fs::create_dir(&folder).unwrap();
    make_image(&outer.path().join("secret.qcow2"), 16, &[7; 512]).await.unwrap();
    std::os::unix::fs::symlink(outer.path().join("secret.qcow2"), folder.join("link")).unwrap();

    let missing = refused(&folder, "over-gone", "gone").await.unwrap();
    assert!(matches!(&missing, OpenError::BackingMissing { named, .. } if named == "gone"));
    assert!(missing.to_string().contains("over-gone"));
    let itself = refused(&folder, "itself", "itself").await.unwrap();
    assert!(matches!(&itself, OpenError::Cycle { named, .. } if named == "itself"), "{itself}");
    // "x" is made while its backing file is missing, so that "y" can stand on it and close the circle.
    assert!(matches!(refused(&folder, "x", "y").await.unwrap(), OpenError::BackingMissing { .. }));
    let circle = refused(&folder, "y", "x").await.unwrap();
    assert!(
        matches!(&circle, OpenError::Cycle { path, named } if path.ends_with("x") && named == "y")
    );
    let escaping = refused(&folder, "over-link", "link").await.unwrap();
    let outside = |it: &OpenError| {
        matches!(it, OpenError::BackingRefused { source: Escapes::Outside(_), .. })
    };
    assert!(outside(&escaping), "{escaping:?}");
    std::fs::write(folder.join("text"), b"not an image").unwrap();
    assert!(matches!(refused(&folder, "over-text", "text").await.unwrap(), OpenError::NotQcow2(_)));
}

#[tokio::test]
async fn absolute_and_climbing_names_are_refused() {
    if !qemu::available() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("repository");
    std::fs::create_dir(&folder).unwrap();
    make_image(&folder.join("full.qcow2"), 16, &[7; 512]).await.unwrap();
    let absolute = folder.join("full.qcow2").to_str().unwrap().to_owned();
    for backing in [absolute.as_str(), "../repository/full.qcow2", "json:{\"driver\":\"null-co\"}"]
    {
        let path = folder.join("top.qcow2");
        let text = path.to_str().unwrap();
        let create =
            ["create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", text, "1M"];
        qemu::img(&create).unwrap();
        let error = ImageReader::open_chain(&InsideDirectory::new(&folder), &path).err().unwrap();
        let named = matches!(
            error,
            OpenError::BackingRefused { source: Escapes::NotPlain, .. }
                | OpenError::BackingMissing { .. }
        );
        assert!(named, "{backing}: {error:?}");
    }
}

#[tokio::test]
async fn a_chain_may_be_deep_but_not_endless() {
    let folder = tempfile::tempdir().unwrap();
    let model = vec![3; 1024];
    make_image(&folder.path().join("0"), 9, &model).await.unwrap();
    for number in 1..=hub_qcow2::MAX_DEPTH {
        let options = overlay(1024, 9, &(number - 1).to_string(), 1024);
        let path = folder.path().join(number.to_string());
        ImageWriter::create_new(&path, options, None).unwrap().finish().await.unwrap();
    }
    let deepest = (hub_qcow2::MAX_DEPTH - 1).to_string();
    let reader = open(folder.path(), &deepest).unwrap();
    assert_eq!(reader.depth(), hub_qcow2::MAX_DEPTH);
    require_equal(&reader, &model).await.unwrap();
    let endless = refused(folder.path(), &hub_qcow2::MAX_DEPTH.to_string(), "").await.unwrap();
    assert!(matches!(endless, OpenError::TooDeep(_)));
}

/// The name of a backing file may lie anywhere in the first cluster, behind what is read of a header at first.
#[tokio::test]
async fn a_backing_name_at_the_end_of_the_first_cluster_is_found() {
    let folder = tempfile::tempdir().unwrap();
    make_image(&folder.path().join("full"), 16, &[5; 1024]).await.unwrap();
    let path = folder.path().join("top");
    let options = overlay(1024, 16, "full", 1024);
    ImageWriter::create_new(&path, options, None).unwrap().finish().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in [4096 - 2, 4096, 65_536 - 4_usize] {
        bytes[at..at + 4].copy_from_slice(b"full");
        bytes[8..16].copy_from_slice(&(at as u64).to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let reader = open(folder.path(), "top").unwrap();
        assert_eq!(reader.depth(), 2, "{at}");
        require_equal(&reader, &[5; 1024]).await.unwrap();
    }
    bytes[8..16].copy_from_slice(&65_533_u64.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert!(ImageInfo::read(&path).is_err(), "a name that leaves the first cluster");
}
