//! The trial that every implementation of the seam stands, so that none of them drifts.
//!
//! Call these from the tests of an implementation; they return an error that names the broken clause.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::{BlockDevice, BlockError, ExtentKind};

/// What a clause that does not hold returns.
pub type ContractResult = Result<(), Box<dyn Error + Send + Sync>>;

/// The size the suite asks for: whole 64 KiB clusters and an odd end of one sector.
pub const SIZE: u64 = 5 * 65_536 + 512;

fn clause(holds: bool, name: &str) -> ContractResult {
    if holds { Ok(()) } else { Err(format!("contract of BlockDevice broken: {name}").into()) }
}

/// Runs every clause against fresh, zeroed, writable devices of the size asked for.
pub async fn writable<F, Fut>(fresh: F) -> ContractResult
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = Result<Arc<dyn BlockDevice>, Box<dyn Error + Send + Sync>>>,
{
    starts_as_zeroes(&*fresh(SIZE).await?).await?;
    reads_what_was_written(&*fresh(SIZE).await?).await?;
    overwrites_and_zeroes(&*fresh(SIZE).await?).await?;
    refuses_what_leaves_it(&*fresh(SIZE).await?).await?;
    extents_cover_exactly(&*fresh(SIZE).await?).await?;
    blocks_as_it_awaits(fresh(SIZE).await?).await?;
    concurrent_writes_all_arrive(fresh(SIZE).await?).await
}

async fn starts_as_zeroes(device: &dyn BlockDevice) -> ContractResult {
    clause(device.size() == SIZE, "has the size asked for")?;
    clause(!device.read_only(), "is writable")?;
    let all = device.read_at(0, u32::try_from(SIZE)?).await?;
    clause(all.iter().all(|byte| *byte == 0), "starts as zeroes")
}

async fn reads_what_was_written(device: &dyn BlockDevice) -> ContractResult {
    let pattern: Vec<u8> = (0..70_000_u32).map(|at| at.to_le_bytes()[0] ^ 0x5A).collect();
    device.write_at(4_096, Bytes::from(pattern.clone())).await?;
    device.write_at(SIZE - 512, Bytes::from(vec![9; 512])).await?;
    device.flush().await?;
    let back = device.read_at(4_096, 70_000).await?;
    clause(back == pattern, "reads what was written, across clusters")?;
    let before = device.read_at(0, 4_096).await?;
    clause(before.iter().all(|byte| *byte == 0), "leaves what is before alone")?;
    let end = device.read_at(SIZE - 512, 512).await?;
    clause(end.iter().all(|byte| *byte == 9), "holds a last, short cluster")
}

async fn overwrites_and_zeroes(device: &dyn BlockDevice) -> ContractResult {
    device.write_at(0, Bytes::from(vec![1; 131_072])).await?;
    device.write_at(512, Bytes::from(vec![2; 512])).await?;
    device.write_zeroes(65_536, 65_536).await?;
    device.write_zeroes(1_024, 512).await?;
    let back = device.read_at(0, 131_072).await?;
    clause(back[..512].iter().all(|byte| *byte == 1), "keeps bytes before a partial write")?;
    clause(back[512..1_024].iter().all(|byte| *byte == 2), "shows the later write")?;
    clause(back[1_024..1_536].iter().all(|byte| *byte == 0), "zeroes a part of a cluster")?;
    clause(back[1_536..65_536].iter().all(|byte| *byte == 1), "keeps the bytes after it")?;
    clause(back[65_536..].iter().all(|byte| *byte == 0), "zeroes a whole cluster")?;
    device.write_at(65_536, Bytes::from(vec![3; 512])).await?;
    let back = device.read_at(65_536, 1_024).await?;
    clause(
        back[..512].iter().all(|byte| *byte == 3) && back[512..].iter().all(|byte| *byte == 0),
        "writes over zeroes",
    )
}

async fn refuses_what_leaves_it(device: &dyn BlockDevice) -> ContractResult {
    let out = |result: Result<(), BlockError>| {
        clause(
            matches!(result, Err(BlockError::OutOfRange { .. })),
            "refuses a range beyond the end",
        )
    };
    out(device.read_at(SIZE - 1, 2).await.map(drop))?;
    out(device.read_at(u64::MAX, 1).await.map(drop))?;
    out(device.write_at(SIZE - 1, Bytes::from_static(b"ab")).await)?;
    out(device.write_zeroes(SIZE, 1).await)?;
    out(device.extents(0, SIZE + 1).await.map(drop))?;
    let last = device.read_at(SIZE - 1, 1).await?;
    clause(last[0] == 0, "a refused write changes nothing")?;
    device.write_at(SIZE, Bytes::new()).await?;
    device.write_zeroes(0, 0).await?;
    clause(device.read_at(0, 0).await?.is_empty(), "an empty range is not an error")
}

async fn extents_cover_exactly(device: &dyn BlockDevice) -> ContractResult {
    device.write_at(131_072, Bytes::from(vec![5; 65_536])).await?;
    for (offset, len) in [(0, SIZE), (131_000, 1_000), (SIZE - 512, 512), (140_000, 1)] {
        let extents = device.extents(offset, len).await?;
        let mut at = offset;
        for extent in &extents {
            clause(extent.offset == at && extent.len > 0, "extents are in order, without gaps")?;
            at = extent.end();
            if extent.kind == ExtentKind::Zero {
                let bytes = device.read_at(extent.offset, u32::try_from(extent.len)?).await?;
                clause(bytes.iter().all(|byte| *byte == 0), "a zero extent reads as zeroes")?;
            }
        }
        clause(at == offset + len, "extents cover the range exactly")?;
    }
    clause(device.extents(0, 0).await?.is_empty(), "no extents for an empty range")
}

/// The face for threads that may block, where there is one, shows the same device.
async fn blocks_as_it_awaits(device: Arc<dyn BlockDevice>) -> ContractResult {
    let Some(blocking) = device.clone().blocking() else { return Ok(()) };
    let face = blocking.clone();
    let written = tokio::task::spawn_blocking(move || face.write_now(65_536, &[6; 65_536]));
    match written.await? {
        Some(written) => written?,
        None => device.write_at(65_536, Bytes::from(vec![6; 65_536])).await?,
    }
    let back = device.read_at(65_535, 65_538).await?;
    clause(back[0] == 0 && back[65_537] == 0, "writes no more than it is given")?;
    clause(back[1..65_537].iter().all(|byte| *byte == 6), "shows what was written at once")?;
    let (read, refused) = tokio::task::spawn_blocking(move || {
        let refused = [
            blocking.read_now(SIZE - 1, 2).map(|it| it.map(drop)),
            blocking.read_now(u64::MAX, 1).map(|it| it.map(drop)),
            blocking.write_now(SIZE - 1, b"ab"),
        ];
        (blocking.read_now(65_535, 65_538), refused)
    })
    .await?;
    if let Some(read) = read {
        clause(read? == back, "reads at once what it reads otherwise")?;
    }
    for refused in refused.into_iter().flatten() {
        clause(
            matches!(refused, Err(BlockError::OutOfRange { .. })),
            "refuses at once a range beyond the end",
        )?;
    }
    Ok(())
}

async fn concurrent_writes_all_arrive(device: Arc<dyn BlockDevice>) -> ContractResult {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..80_u32 {
        let device = device.clone();
        let byte = index.to_le_bytes()[0] + 1;
        tasks.spawn(async move {
            device.write_at(u64::from(index) * 4_096, Bytes::from(vec![byte; 4_096])).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    device.flush().await?;
    for index in 0..80_u32 {
        let back = device.read_at(u64::from(index) * 4_096, 4_096).await?;
        let byte = index.to_le_bytes()[0] + 1;
        clause(back.iter().all(|it| *it == byte), "concurrent writes to one cluster all arrive")?;
    }
    Ok(())
}
