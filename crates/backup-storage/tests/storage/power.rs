//! Power cuts at every step of backups, deletions and replica runs: an earlier point is never touched, and a
//! name that stands for something whole never stands for a part of it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks at the few steps that concern it"
)]

mod resumed;
mod story;
mod survivor;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hub_block::trail::Step;

use self::story::Story;
use self::survivor::Survivor;
use super::fixture::qemu_img;
use super::power_cut::Loss;
use super::seed::{Seed, rounds};

/// Random losses for each step.
const ROUNDS: usize = 3;

/// Cuts at every step; returns how many states were tried, and what was lost.
async fn campaign(story: &Story, seed: &mut Seed, rounds: usize) -> Result<(usize, Vec<String>)> {
    let (mut tried, mut lost) = (0, Vec::new());
    let qemu = qemu_img()?;
    for count in 1..=story.cut.steps.len() {
        for round in 0..rounds {
            let survivor = survivor(story, count, &mut Loss::draw(seed))?;
            let by_qemu =
                if qemu && tried % 40 == 0 { survivor.judge_by_qemu(story) } else { Ok(()) };
            if let Err(error) = by_qemu.and(survivor.judge(story, count).await) {
                let step = &story.cut.steps[count - 1].1;
                lost.push(format!("step {count} ({}), round {round}: {error:#}", name_of(step)));
            }
            tried += 1;
        }
    }
    Ok((tried, lost))
}

/// What a cut after so many steps leaves.
fn survivor(story: &Story, count: usize, loss: &mut Loss<'_>) -> Result<Survivor> {
    let survivor = Survivor::new()?;
    let cut = story.cut.rebuild(count, loss, survivor.folder.path());
    cut.context("the state cannot be built")?;
    Ok(survivor)
}

/// Whether something is lost at one of these steps if one place alone loses what no sync covers.
async fn is_missed(story: &Story, from: usize) -> Result<bool> {
    for count in from..=story.cut.steps.len() {
        for mut loss in story.cut.losses_of_one_place(count)? {
            if survivor(story, count, &mut loss)?.judge(story, count).await.is_err() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Wrote { file, offset, bytes } => {
            format!("{} bytes to {file} at {offset}", bytes.len())
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_no_power_cut_loses_a_point_or_shows_half_a_one() -> Result<()> {
    let story = Story::play().await?;
    let mut seed = Seed::new();
    let (tried, lost) = campaign(&story, &mut seed, rounds(ROUNDS)).await?;
    eprintln!(
        "power cuts: seed {}, {} steps, {tried} states, {} lost",
        seed.first(),
        story.cut.steps.len(),
        lost.len()
    );
    ensure!(lost.is_empty(), "seed {}: {lost:#?}", seed.first());
    ensure!(tried > 300, "only {tried} states");
    Ok(())
}

/// The judge sees it if a single sync is missing: each of these is taken away in turn. No number is drawn here, so
/// that it is seen always or never.
#[tokio::test(flavor = "multi_thread")]
async fn every_missing_sync_would_be_seen() -> Result<()> {
    let mut story = Story::play().await?;
    let all = story.cut.steps.clone();
    let mark = |what: &str, nth: usize| {
        let mut marks = (0..all.len()).filter(|at| is_mark(&all[*at].1, what));
        marks.nth(nth).context("a mark")
    };
    let sealed = mark("sealed 1", 0)?;
    let (updating, updated) = (mark("updating qcow2", 1)?, mark("replicated qcow2", 1)?);
    // Of a backup: the syncs of image and of manifest before and after their headers, and that of their names.
    // Of a replica that is brought up to date: that its manifest is gone, and its tables before the header.
    let mut syncs = last_syncs(&all[..sealed]);
    let is_header =
        |step: &Step| matches!(step, Step::Wrote { offset: 0, bytes, .. } if bytes.len() == 512);
    let header = (updating..updated).find(|at| is_header(&all[*at].1)).context("a new header")?;
    let is_removal = |step: &Step| matches!(step, Step::Removed { .. });
    let removed = (updating..header).find(|at| is_removal(&all[*at].1)).context("a removal")?;
    syncs.extend((removed..header).find(|at| is_sync_of_names(&all[*at].1)));
    syncs.extend((updating..header).rfind(|at| matches!(all[*at].1, Step::Synced { .. })));
    let is_own_header =
        |step: &Step| matches!(step, Step::Wrote { offset: 0, bytes, .. } if bytes.len() == 16_384);
    for is_header in [&is_header as &dyn Fn(&Step) -> bool, &is_own_header] {
        let header = (0..sealed).find(|at| is_header(&all[*at].1)).context("a header")?;
        syncs.extend((0..header).rfind(|at| matches!(all[*at].1, Step::Synced { .. })));
    }
    ensure!(syncs.len() == 7, "{syncs:?}");
    for at in syncs {
        story.cut.steps = all[..=if at < sealed { sealed } else { updated }].to_vec();
        ensure!(!is_missed(&story, at).await?, "step {at} is there, and something is lost");
        let without = story.cut.steps.remove(at).1;
        ensure!(is_missed(&story, at).await?, "step {at} ({without:?}) is not missed");
    }
    Ok(())
}

/// The last sync of each file, and of the last directory.
fn last_syncs(steps: &[(u64, Step)]) -> Vec<usize> {
    let mut last = BTreeMap::new();
    for (at, (_, step)) in steps.iter().enumerate() {
        match step {
            Step::Synced { file } => drop(last.insert(Some(*file), at)),
            Step::DirectorySynced { .. } => drop(last.insert(None, at)),
            _ => (),
        }
    }
    last.into_values().collect()
}

fn is_sync_of_names(step: &Step) -> bool {
    matches!(step, Step::DirectorySynced { .. })
}

fn is_mark(step: &Step, wanted: &str) -> bool {
    matches!(step, Step::Marked { what } if what == wanted)
}
