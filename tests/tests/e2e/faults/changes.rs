//! Incrementals: by digest after changes, and by what a snapshot chain says has changed.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Subformat, VirtualMachine, VmSpec, noise};
use hub_tests::lab::Lab;
use serde_json::Value;

use super::play;
use super::protected::{MIB, Protected, disk};

/// Bytes per digest, and per cluster of an image.
const BLOCK: u64 = 65_536;

/// Writes one block at each of these block numbers.
fn change(vm: &VirtualMachine, ordinal: usize, blocks: &[u64], seed: u64) -> Result<()> {
    for block in blocks {
        vm.disk(ordinal)?.write(block * BLOCK, &noise(seed ^ block, usize::try_from(BLOCK)?))?;
    }
    Ok(())
}

fn only(backups: &[Value]) -> Result<&Value> {
    ensure!(backups.len() == 1, "one disk: {backups:#?}");
    backups.first().context("one disk")
}

fn one_disk(name: &str, subformat: Subformat) -> VmSpec {
    let capacity = 32 * MIB;
    VmSpec::new(name, vec![disk(capacity, subformat, 5, vec![0..12 * MIB, 20 * MIB..32 * MIB])])
}

#[tokio::test]
async fn an_incremental_by_digest_sends_what_changed_and_equals_the_source() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &one_disk("digest", Subformat::MonolithicSparse)).await?;
        it.back_up(lab, "full").await?;
        let full = it.files()?;
        for generation in 1..=3 {
            // A block of data, one in a hole, and zeroes over data.
            change(&it.vm, 0, &[generation, 200 + generation], generation)?;
            it.vm.disk(0)?.write((350 + generation) * BLOCK, &vec![0; usize::try_from(BLOCK)?])?;
            let backups = it.back_up(lab, "incremental").await?;
            let point = only(&backups)?;
            ensure!(point.text("/backup_type")? == "incremental", "{point:#}");
            ensure!(point.text("/method")? == "by_digest", "{point:#}");
            ensure!(!point.text("/method_reason")?.is_empty(), "and why: {point:#}");
            let sent = point.number("/bytes/sent")?;
            ensure!(sent <= 3 * BLOCK, "three blocks changed, {sent} bytes were sent: {point:#}");
            it.verify(lab, point).await?;
        }
        // Nothing changed: an empty delta is a success (trap D46).
        let backups = it.back_up(lab, "incremental").await?;
        let point = only(&backups)?;
        ensure!(point.number("/bytes/sent")? == 0, "{point:#}");
        let now = it.files()?;
        let kept = full.iter().all(|(path, digest)| now.get(path) == Some(digest));
        ensure!(kept, "what others stand on is never written to: {full:#?} {now:#?}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}

#[tokio::test]
async fn an_incremental_by_the_snapshot_chain_reads_and_sends_only_what_changed() {
    let part = async |lab: &mut Lab| {
        let mut it = Protected::new(lab, &one_disk("chain", Subformat::MonolithicFlat)).await?;
        it.back_up(lab, "full").await?;
        for generation in 1..=2_u64 {
            it.vm.snapshot()?;
            let blocks: Vec<u64> = (0..20).map(|it| it * 23 + generation).collect();
            change(&it.vm, 0, &blocks, 100 * generation)?;
            // The top of the chain has another name now, which is no reason to read the whole disk.
            let backups = it.back_up(lab, "incremental").await?;
            let point = only(&backups)?;
            ensure!(point.text("/backup_type")? == "incremental", "{point:#}");
            ensure!(point.text("/method")? == "changed_since", "{point:#}");
            ensure!(point.is_null_at("/method_reason"), "nothing was doubtful: {point:#}");
            let changed = 20 * BLOCK;
            // A part of what did not change is read as well, to audit the chain's word.
            let audited = point.number("/audit/bytes")?;
            ensure!(audited > 0 && audited <= changed, "{point:#}");
            for (counter, beside) in [("/bytes/sent", 0), ("/bytes/read", audited)] {
                let bytes = point.number(counter)?;
                let bound = changed + changed / 20 + beside;
                ensure!(bytes <= bound, "{counter} is {bytes}, more than {bound}: {point:#}");
            }
            ensure!(point.number("/bytes/sent")? > 0, "{point:#}");
            it.verify(lab, point).await?;
        }
        // The marked layer itself was written to: nothing is certain any more, so everything is read (promise P7).
        it.vm.disk(0)?.write(3 * BLOCK, &noise(9, usize::try_from(BLOCK)?))?;
        let backups = it.back_up(lab, "incremental").await?;
        let point = only(&backups)?;
        ensure!(point.text("/method")? == "by_digest", "{point:#}");
        ensure!(point.text("/method_reason")?.contains("written to since"), "{point:#}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}
