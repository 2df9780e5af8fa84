//! Change tracking that lies is found out within the stated number of runs, and is not relied on after that.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::vsphere::{Account, VsphereLab, judge};

use super::MIB;
use super::held::play;

/// Within how many runs the whole disk is audited.
const RUNS: u32 = 4;

/// A change of which the vCenter says nothing.
const HIDDEN: u64 = 9 * MIB;

/// What is told of it: the audit by the hub, and that tracking is started anew by the VMA.
const EXPECTED: &[&str] = &["audit", "left out", "change tracking was switched off"];

#[tokio::test]
async fn trap_u36_a_change_that_the_vcenter_leaves_out_is_found_and_the_next_run_is_a_full() {
    let part = async |lab: &mut VsphereLab| {
        let (guest, context) = lab.manage("audited", &[16 * MIB]).await?;
        guest.write(0, 0, &noise(1, 16 << 20))?;
        lab.back_up(&guest, &context, "full").await?;
        let honest = lab.audit(&context, 0, RUNS).await?;
        ensure!(honest.number("/audit/bytes")? >= 16 * MIB / u64::from(RUNS), "{honest:#}");
        ensure!(!honest.flag("/suspect")?, "nothing was left out: {honest:#}");

        guest.write(0, HIDDEN, &noise(2, 65_536))?;
        lab.deny_changes(&guest, 0)?;
        let root = lab.repository().await?.text("/path")?;
        let mut believed = Vec::new();
        let finder = loop {
            let point = lab.audit(&context, 0, RUNS).await?;
            if !point.is_null_at("/suspicion") {
                break point;
            }
            believed.push(point.text("/backup_id")?);
            ensure!(believed.len() < 4, "the whole disk was audited, and nothing was found");
        };
        ensure!(finder.number("/suspicion/offset")? == HIDDEN, "{finder:#}");
        ensure!(finder.text("/method")? == "by_digest", "it was read as a whole: {finder:#}");
        let file = guest.disks().first().map_or(root.as_ref(), |it| it.as_path());
        judge(root.as_ref(), &finder, file)?;
        for id in believed {
            let point = lab.api.get(&format!("/backups/{id}")).await?.ok()?;
            ensure!(point.flag("/suspect")?, "it lacks the change: {point:#}");
        }
        let health = lab.api.get("/debug/health").await?.ok()?;
        ensure!(health.number("/alarms/suspect_chains")? == 1, "{health:#}");

        let next = lab.back_up(&guest, &context, "incremental").await?;
        for point in &next {
            ensure!(point.text("/backup_type")? == "full", "{point:#}");
            let found_by = finder.text("/backup_id")?;
            ensure!(point.text("/method_reason")?.contains(&found_by), "{point:#}");
            ensure!(!point.flag("/suspect")?, "a chain of its own: {point:#}");
        }
        let health = lab.api.get("/debug/health").await?.ok()?;
        ensure!(health.number("/alarms/suspect_chains")? == 0, "{health:#}");
        Ok(())
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

/// A full reads everything anyway, so it finds what the incrementals before it were denied, wherever their audit had come
/// to, at the rate that nobody has chosen.
#[tokio::test]
async fn trap_u36_a_full_finds_what_the_chain_that_it_ends_was_denied() {
    let part = async |lab: &mut VsphereLab| {
        let (guest, context) = lab.manage("denied", &[16 * MIB]).await?;
        guest.write(0, 0, &noise(1, 16 << 20))?;
        lab.back_up(&guest, &context, "full").await?;
        guest.write(0, HIDDEN / 2, &noise(2, 65_536))?;
        let honest = lab.back_up(&guest, &context, "full").await?;
        for point in &honest {
            ensure!(point.number("/audit/bytes")? >= 15 * MIB, "all but the change: {point:#}");
            ensure!(point.is_null_at("/method_reason"), "nothing was found: {point:#}");
        }
        guest.write(0, HIDDEN, &noise(3, 65_536))?;
        lab.deny_changes(&guest, 0)?;
        let believed = lab.audit(&context, 0, 100).await?;
        ensure!(believed.text("/method")? == "changed_since", "{believed:#}");
        ensure!(believed.is_null_at("/suspicion"), "the audit is not there yet: {believed:#}");

        let full = lab.back_up(&guest, &context, "full").await?.remove(0);
        let full_id = full.text("/backup_id")?;
        ensure!(full.is_null_at("/suspicion") && full.is_null_at("/change_id"), "{full:#}");
        ensure!(full.text("/method_reason")?.contains("called a block unchanged"), "{full:#}");
        let id = believed.text("/backup_id")?;
        let point = lab.api.get(&format!("/backups/{id}")).await?.ok()?;
        ensure!(point.flag("/suspect")?, "it lacks the change: {point:#}");
        ensure!(point.text("/suspicion/found_by_backup_id")? == full_id, "{point:#}");
        ensure!(point.number("/suspicion/offset")? == HIDDEN, "{point:#}");
        let health = lab.api.get("/debug/health").await?.ok()?;
        ensure!(health.number("/alarms/suspect_points")? == 1, "{health:#}");

        let next = lab.back_up(&guest, &context, "incremental").await?.remove(0);
        ensure!(next.text("/method")? == "by_digest", "{next:#}");
        ensure!(next.text("/method_reason")?.contains("left out changes"), "{next:#}");
        Ok(())
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}
