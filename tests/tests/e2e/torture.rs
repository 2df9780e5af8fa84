//! The short form of the crash and fault campaign: a sample of every part, with one seed.

use std::process::Command;

use anyhow::{Result, ensure};
use hub_tests::processes::binary;
use hub_tests::tool;

/// Promises P1, P2, P4 and P5 in one: nothing is lost, whatever is killed, full, failing, flipped, cut or swapped.
#[test]
fn p1_p2_p4_and_p5_a_short_campaign_loses_nothing() -> Result<()> {
    if !tool::present(&tool::DISK_TOOLS)? {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let mut campaign = Command::new(binary("torture")?);
    campaign.arg("--short").arg("--evidence").arg(place.path().join("evidence"));
    if let Some(seed) = std::env::var_os("HUB_TEST_SEED") {
        campaign.arg("--seed").arg(seed);
    }
    let output = campaign.output()?;
    let (said, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        // A test's directory goes away; what the campaign kept of a loss does not.
        let kept = place.keep();
        anyhow::bail!("{told}\n{said}\nevidence in {}", kept.display());
    }
    ensure!(said.contains("SIGKILL at random"), "it printed its scoreboard: {said}");
    Ok(())
}
