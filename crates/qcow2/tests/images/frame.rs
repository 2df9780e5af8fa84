//! The frame: content and frame together are the whole file, so that no bit of it can change unseen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError};
use hub_qcow2::{ImageWriter, check_with_frame};

use crate::model::{make_image, open, overlay};
use crate::qemu;

/// Everything that a verification looks at, as one number; none for an image that is refused.
async fn proof(folder: &Path, name: &str) -> anyhow::Result<Option<u64>> {
    let Ok((report, frame)) = check_with_frame(&folder.join(name)) else { return Ok(None) };
    if !report.is_clean() {
        return Ok(None);
    }
    let mut hasher = DefaultHasher::new();
    frame.file_bytes().hash(&mut hasher);
    for piece in frame.pieces(0..frame.file_bytes()) {
        piece.hash(&mut hasher);
        frame.read(piece, |bytes| bytes.hash(&mut hasher))?;
    }
    let Ok(reader) = open(folder, name) else { return Ok(None) };
    let Ok(bytes) = reader.read_at(0, u32::try_from(reader.size())?).await else { return Ok(None) };
    bytes.hash(&mut hasher);
    Ok(Some(hasher.finish()))
}

/// Small clusters, so that a file of every kind of table is short enough to try each of its bits.
async fn specimens(folder: &Path) -> anyhow::Result<()> {
    make_image(&folder.join("full"), 9, &[9; 20 * 1024]).await?;
    let options = overlay(24_064, 9, "full", 20 * 1024);
    let writer = ImageWriter::create_new(&folder.join("grown"), options, None)?;
    writer.write_at(0, Bytes::from(vec![1; 1024])).await?;
    writer.write_zeroes(512, 2048).await?;
    writer.write_at(16 * 1024, Bytes::from(vec![2; 512])).await?;
    writer.write_at(23_552, Bytes::from(vec![3; 512])).await?;
    writer.finish().await?;
    let options = overlay(512, 10, "full", 20 * 1024);
    let writer = ImageWriter::create_new(&folder.join("short"), options, None)?;
    writer.write_at(0, Bytes::from(vec![4; 512])).await?;
    writer.finish().await?;
    Ok(())
}

/// Promise P4: whatever bit of an image is flipped, its structure, its frame or its content differs.
#[tokio::test]
async fn p4_every_single_bit_of_an_image_is_covered() {
    let folder = tempfile::tempdir().unwrap();
    specimens(folder.path()).await.unwrap();
    for name in ["grown", "short"] {
        let path = folder.path().join(name);
        let good = proof(folder.path(), name).await.unwrap();
        assert!(good.is_some());
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            // Every bit of a byte that is set; of the many zeroes one, another one in the next.
            let all = if *byte == 0 { at % 8..at % 8 + 1 } else { 0..8 };
            for bit in all {
                file.write_all_at(&[byte ^ 1 << bit], at as u64).unwrap();
                let found = proof(folder.path(), name).await.unwrap();
                assert_ne!(found, good, "bit {bit} of byte {at} of {name}");
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        assert_eq!(proof(folder.path(), name).await.unwrap(), good);
    }
}

/// Compressed clusters as another tool packs them: end to end, across sectors and host clusters.
#[tokio::test]
async fn p4_every_byte_of_a_compressed_image_is_covered() {
    if !qemu::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let source: Vec<u8> = (0..3072_usize).map(|at| (at * at / 97 % 19).to_le_bytes()[0]).collect();
    std::fs::write(&raw, &source).unwrap();
    for kind in ["zlib", "zstd"] {
        let path = folder.path().join(kind);
        let (from, to) = (qemu::text(&raw).unwrap(), qemu::text(&path).unwrap());
        let options = format!("cluster_size=512,compression_type={kind}");
        let convert = ["convert", "-c", "-o", &options, "-f", "raw", "-O", "qcow2", from, to];
        qemu::img(&convert).unwrap();
        let good = proof(folder.path(), kind).await.unwrap();
        assert!(good.is_some());
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut served = 0;
        for (at, byte) in bytes.iter().enumerate() {
            file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).unwrap();
            let found = proof(folder.path(), kind).await.unwrap();
            assert_ne!(found, good, "bit {} of byte {at} of {kind}", at % 8);
            if let Ok(reader) = open(folder.path(), kind) {
                match reader.read_at(0, 3072).await {
                    Ok(same) if same == source => served += 1,
                    Ok(_) | Err(BlockError::Unsupported(_)) => (),
                    Err(BlockError::Corrupt { offset, what }) => {
                        assert!(offset < bytes.len() as u64 && what.contains(kind), "{what}");
                    }
                    Err(other) => panic!("byte {at} of {kind}: {other}"),
                }
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        assert!(served > 0 && served < bytes.len(), "{served} of {} had no effect", bytes.len());
    }
}

#[tokio::test]
async fn pieces_are_cut_at_the_range_and_leave_out_what_the_disk_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    // The last cluster shows 1,024 of its bytes; the header's cluster lies before the data.
    make_image(&path, 12, &[1; 4096 + 1024]).await.unwrap();
    let (report, frame) = check_with_frame(&path).unwrap();
    assert_eq!(report.data_clusters, 2);
    let end = frame.file_bytes();
    assert_eq!(end, std::fs::metadata(&path).unwrap().len());
    let pieces = |within| frame.pieces(within).collect::<Vec<_>>();
    assert_eq!(pieces(0..u64::MAX), [0..4096, 8192 + 1024..end]);
    assert_eq!(pieces(4000..9300), [4000..4096, 9216..9300]);
    assert!(pieces(4096..9216).is_empty() && pieces(end..u64::MAX).is_empty());
    assert_eq!(pieces(9217..9218).first(), Some(&(9217..9218)));
    let mut read = 0;
    frame.read(0..4096, |bytes| read += bytes.len()).unwrap();
    assert_eq!(read, 4096);
    assert!(frame.read(end - 1..end + 1, |_| ()).is_err());
}
