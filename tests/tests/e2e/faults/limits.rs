//! Limits on real processes: who waits, for what, and how fast bytes may travel.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat, VmSpec};
use hub_tests::lab::Lab;
use serde_json::json;
use tokio::time::Instant;

use super::play;
use super::protected::{MIB, Protected};

/// A disk with so many bytes of noise, which no path makes smaller.
fn noisy(seed: u64, bytes: u64) -> DiskSpec {
    let areas = std::iter::once(MIB..MIB + bytes).collect();
    let content = Content::Noise { seed, areas };
    DiskSpec { capacity: 64 * MIB, subformat: Subformat::MonolithicSparse, content }
}

/// Changes the limits of the one VMA.
async fn limit_vma(lab: &Lab, limits: serde_json::Value) -> Result<()> {
    let nodes = lab.api.all("/vma-nodes").await?;
    let id = nodes.first().unwrap_or(&serde_json::Value::Null).text("/id")?;
    let node = lab.api.patch(&format!("/vma-nodes/{id}"), &limits).await?.ok()?;
    for (field, value) in limits.as_object().into_iter().flatten() {
        ensure!(node.get(field) == Some(value), "set to {limits}: {node:#}");
    }
    Ok(())
}

/// The runs that are at work, in one question.
async fn at_work(lab: &Lab) -> Result<BTreeSet<String>> {
    let running = lab.api.all("/backups?status=running").await?;
    running.iter().map(|backup| backup.text("/run_id")).collect()
}

/// Three VMs of a VMA that bears one copy: one at work at any time, the others say why they wait, and one of them is
/// cancelled in line, with nothing ever made for it.
#[tokio::test]
async fn p9_copies_of_a_limited_vma_take_turns_and_waiting_is_seen() {
    let part = async |lab: &mut Lab| {
        let limits = json!({"max_concurrent_copies": 1, "max_bytes_per_second": MIB});
        limit_vma(lab, limits).await?;
        let (mut vms, mut runs) = (Vec::new(), Vec::new());
        // The first is at work until everything has been asked, however long a busy machine takes for that.
        for (seed, bytes) in [(1, 20 * MIB), (2, 3 * MIB), (3, 3 * MIB)] {
            let spec = VmSpec::new(&format!("turn-{seed}"), vec![noisy(seed, bytes)]);
            vms.push(Protected::new(lab, &spec).await?);
        }
        for vm in &vms {
            runs.push(vm.start(lab, "full").await?);
        }
        let [first, second, third] = runs.as_slice() else { anyhow::bail!("three runs") };
        let waits = |place: &str| format!("1 of 1 copies of VMA lab are at work; {place} in line");
        for (run, place, number) in [(second, "1st", 1), (third, "2nd", 2)] {
            let run = lab.api.get(run).await?.ok()?;
            ensure!(run.text("/status")? == "queued", "{run:#}");
            ensure!(run.text("/waiting/reason")? == waits(place), "{run:#}");
            ensure!(run.text("/waiting/limited_by")? == "vma", "{run:#}");
            ensure!(run.number("/waiting/place")? == number, "{run:#}");
            ensure!(run.text("/backups/0/waiting/reason")? == waits(place), "{run:#}");
        }

        let cancelled = lab.api.post(&format!("{third}/cancel"), &json!({})).await?.ok()?;
        ensure!(cancelled.text("/status")? == "cancelled", "at once: {cancelled:#}");
        ensure!(cancelled.is_null_at("/waiting"), "it waits no more: {cancelled:#}");
        ensure!(
            cancelled.is_null_at("/backups/0/repository_path"),
            "nothing was made: {cancelled:#}"
        );

        let again = vms.last().map(|vm| vm.start(lab, "full"));
        let again = again.ok_or_else(|| anyhow::anyhow!("three VMs"))?.await?;
        let mut seen = BTreeSet::new();
        for run in [first, second, &again] {
            loop {
                let now = at_work(lab).await?;
                ensure!(now.len() <= 1, "more than one at work: {now:?}");
                seen.extend(now);
                let job = lab.api.get(run).await?.ok()?;
                if job.text("/status")? == "succeeded" {
                    break;
                }
                let status = job.text("/status")?;
                ensure!(["queued", "running"].contains(&status.as_str()), "{job:#}");
            }
        }
        ensure!(seen.len() == 3, "each was at work once: {seen:?}");
        let points = lab.api.all("/backups?status=succeeded").await?;
        ensure!(points.len() == 3, "{points:#?}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}

#[tokio::test]
async fn a_limit_that_is_taken_away_lets_waiters_in() {
    let part = async |lab: &mut Lab| {
        limit_vma(lab, json!({"max_concurrent_copies": 1, "max_bytes_per_second": 512 * 1024}))
            .await?;
        let mut runs = Vec::new();
        for seed in 1..=2 {
            // At work until both are seen to be, however long a busy machine takes for that.
            let spec = VmSpec::new(&format!("raised-{seed}"), vec![noisy(seed, 10 * MIB)]);
            runs.push(Protected::new(lab, &spec).await?.start(lab, "full").await?);
        }
        let [first, second] = runs.as_slice() else { anyhow::bail!("two runs") };
        lab.api.until(first, |run| Ok(run.text("/status")? == "running")).await?;
        ensure!(lab.api.get(second).await?.ok()?.number("/waiting/place")? == 1);
        limit_vma(lab, json!({"max_concurrent_copies": null})).await?;
        lab.api.until(second, |run| Ok(run.text("/status")? == "running")).await?;
        let first_now = lab.api.get(first).await?.ok()?;
        ensure!(first_now.text("/status")? == "running", "both are at work: {first_now:#}");
        for run in &runs {
            let run = lab.api.ended(run, |_| ()).await?;
            ensure!(run.text("/status")? == "succeeded", "{run:#}");
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}

/// What was sent is told by the VMA's own counters; that it took at least so long is a bound from below, and holds on
/// a machine of any speed.
#[tokio::test]
async fn a_limited_run_sends_no_faster_than_it_was_told() {
    let part = async |lab: &mut Lab| {
        let vm = Protected::new(lab, &VmSpec::new("slow", vec![noisy(1, 3 * MIB)])).await?;
        let mut request = vm.request("full");
        request["max_bytes_per_second"] = json!(65_535);
        lab.api.post("/backups", &request).await?.refused(400, "request/invalid-field")?;
        let rate = MIB;
        request["max_bytes_per_second"] = json!(rate);
        let began = Instant::now();
        let run = lab.api.run("/backups", &request).await?;
        let took = began.elapsed();
        ensure!(run.number("/max_bytes_per_second")? == rate, "{run:#}");
        let sent = run.number("/bytes/sent")?;
        ensure!(sent >= 3 * MIB, "noise is sent: {run:#}");
        let burst = rate / 4;
        let least = f64::from(u32::try_from(sent - burst)?) / f64::from(u32::try_from(rate)?);
        ensure!(took.as_secs_f64() >= least, "{sent} bytes in {took:?} at {rate} per second");
        for (backup, disk) in run.list("/backups")?.iter().zip(vm.vm.disks()) {
            vm.judge(backup, hub_tests::judge::Image::new(&disk.top(), "vmdk"))?;
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}
