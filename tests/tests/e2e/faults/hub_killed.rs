//! Promise P2 at the hub: killed at any moment, it leaves every earlier point bit-identical.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::lab::Lab;
use serde_json::json;

use super::play;
use super::protected::{MIB, Protected, becomes_true, ends, large_disk, small_disk};

/// What the VMA says when its hub is gone, and what the hub says about a job that it found or left unfinished.
const EXPECTED: &[&str] =
    &["a disk was not copied", "an NBD server was lost", "requeued", "interrupted"];

fn is_partial(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".partial")
}

/// A VM with one point, and a change that the next backup has to copy.
async fn with_a_point(lab: &Lab) -> Result<Protected> {
    let spec = VmSpec::new("survivor", vec![large_disk(1), small_disk(2)]);
    let it = Protected::new(lab, &spec).await?;
    it.back_up(lab, "full").await?;
    it.vm.disk(0)?.write(100 * MIB, &noise(9, 65_536))?;
    Ok(it)
}

#[tokio::test]
async fn p2_a_hub_killed_in_the_middle_of_a_copy_goes_on_with_it_and_leaves_earlier_points() {
    let part = async |lab: &mut Lab| {
        let it = with_a_point(lab).await?;
        let before = it.files()?;
        let run = it.freeze_mid_copy(lab, "full").await?;
        let second = lab.api.all("/backups").await?;
        ensure!(second.len() == 4, "two runs of two disks: {second:#?}");

        lab.hub.program.kill()?;
        lab.hub.restart().await?;
        lab.vma.program.signal("CONT")?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "the run goes on by itself: {ended:#}");
        for point in ended.list("/backups")? {
            ensure!(point.number("/attempt")? == 2, "{point:#}");
            let reason = point.text("/attempt_reason")?;
            ensure!(reason.starts_with("the hub was restarted"), "{reason}");
            let (sent, capacity) = (point.number("/bytes/sent")?, point.number("/capacity_bytes")?);
            ensure!(sent <= 2 * capacity, "{sent} of {capacity} bytes were sent");
        }
        let now = it.files()?;
        let kept = before.iter().all(|(path, digest)| now.get(path) == Some(digest));
        ensure!(kept, "earlier points are never written to");
        ensure!(it.names()?.iter().all(|path| !is_partial(path)), "{:#?}", it.names()?);

        for point in lab.api.all("/backups?status=succeeded").await? {
            it.verify(lab, &point).await?;
        }
        it.back_up(lab, "incremental").await?;
        let full = it.back_up(lab, "full").await?;
        let image = it.image(full.first().context("two disks")?)?;
        ensure!(!before.contains_key(&image), "a new point has a new file");
        let now = it.files()?;
        let kept = before.iter().all(|(path, digest)| now.get(path) == Some(digest));
        ensure!(kept, "earlier points are never written to");
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

/// What the last checkpoint tells of is compared and not sent again.
#[tokio::test]
async fn p2_a_hub_killed_after_a_checkpoint_goes_on_from_its_journal() {
    let part = async |lab: &mut Lab| {
        let often = ("HUB__JOBS__CHECKPOINT_SECONDS".to_owned(), "1".to_owned());
        lab.hub.restart_with(vec![often]).await?;
        let spec = VmSpec::new("continued", vec![large_disk(1)]);
        let it = Protected::new(lab, &spec).await?;
        let run = it.freeze_mid_copy(lab, "full").await?;
        becomes_true("a journal is there", || {
            let journal = |path: &PathBuf| path.to_string_lossy().ends_with(".journal.partial");
            Ok(it.names()?.iter().any(journal))
        })
        .await?;
        lab.hub.program.kill()?;
        lab.vma.program.signal("CONT")?;
        lab.hub.restart().await?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "the run goes on by itself: {ended:#}");
        let point = ended.list("/backups")?.remove(0);
        ensure!(point.number("/attempt")? == 2, "{point:#}");
        let reason = point.text("/attempt_reason")?;
        ensure!(reason.contains("that had arrived were compared"), "{reason}");
        it.verify(lab, &point).await?;
        ensure!(it.names()?.len() == 2, "an image and its manifest: {:#?}", it.names()?);
        it.back_up(lab, "incremental").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

/// When the hub dies; nothing is frozen, so that each is only a beginning.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The request was answered.
    AskedFor,
    /// There is a first file.
    Prepared,
    /// A part of an image is written.
    MidCopy,
    /// A file has got its own name: a disk is sealed, and perhaps not yet in the catalogue.
    Named,
}

impl Moment {
    const ALL: [Self; 4] = [Self::AskedFor, Self::Prepared, Self::MidCopy, Self::Named];

    async fn comes(self, it: &Protected) -> Result<()> {
        let known = it.names()?;
        let fresh = |wish: fn(&str) -> bool| -> Result<bool> {
            let new = it.names()?.into_iter().filter(|path| !known.contains(path));
            Ok(new.map(|path| path.display().to_string()).any(|path| wish(&path)))
        };
        match self {
            Self::AskedFor => Ok(()),
            Self::Prepared => becomes_true("a file is there", || fresh(|_| true)).await,
            Self::MidCopy => it.is_mid_copy().await,
            Self::Named => {
                let named = || fresh(|path| !path.ends_with(".partial"));
                becomes_true("a file has its name", named).await
            }
        }
    }
}

/// Promise P1 too: a point is visible exactly when its files are there under their names.
#[tokio::test]
async fn p1_and_p2_a_hub_killed_at_any_moment_converges_each_time() {
    let part = async |lab: &mut Lab| {
        let it = with_a_point(lab).await?;
        let before = it.files()?;
        // Twice, since the second run of a moment stands on what the first one left.
        for moment in Moment::ALL.into_iter().chain(Moment::ALL) {
            let run = it.start(lab, "full").await?;
            moment.comes(&it).await.with_context(|| format!("{moment:?}"))?;
            lab.hub.restart().await?;
            let ended = lab.api.ended(&run, |_| ()).await?;
            for end in ends(&ended)? {
                let named = end == "interrupted job/hub-restarted" || end == "succeeded";
                ensure!(named, "{moment:?}: every job has a named end: {ended:#}");
            }
            let mut expected = BTreeSet::new();
            for point in lab.api.all("/backups?status=succeeded").await? {
                let image = it.image(&point)?;
                expected.extend([image.with_extension("manifest"), image]);
            }
            let now = it.files()?;
            let found: BTreeSet<_> = now.keys().cloned().collect();
            ensure!(found == expected, "{moment:?}: {found:#?} are not {expected:#?}");
            let kept = before.iter().all(|(path, digest)| now.get(path) == Some(digest));
            ensure!(kept, "{moment:?}: earlier points stay as they are");
        }
        for point in lab.api.all("/backups?status=succeeded").await? {
            it.verify(lab, &point).await?;
        }
        it.back_up(lab, "incremental").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn a_hub_asked_to_stop_in_the_middle_of_a_copy_ends_in_order() {
    let part = async |lab: &mut Lab| {
        let it = with_a_point(lab).await?;
        let before = it.files()?;
        let run = it.freeze_mid_copy(lab, "full").await?;
        let export = lab.api.all("/backups?status=succeeded").await?;
        let point = export.first().context("there is a point")?.text("/backup_id")?;
        lab.api.post("/exports", &json!({"backup_id": point})).await?.ok()?;

        // It ends by itself and with success; the harness fails when it does not.
        lab.hub.program.stop().await?;
        let kept = |now: &std::collections::BTreeMap<_, _>| {
            before.iter().all(|(path, digest)| now.get(path) == Some(digest))
        };
        ensure!(kept(&it.files()?), "earlier points are never written to");
        lab.vma.program.signal("CONT")?;
        lab.hub.restart().await?;
        ensure!(lab.api.all("/exports").await?.is_empty(), "exports end with the hub");
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "the run goes on by itself: {ended:#}");
        let reason = ended.text("/backups/0/attempt_reason")?;
        ensure!(reason.starts_with("the hub was stopped"), "{reason}");
        ensure!(reason.contains("that had arrived were compared"), "{reason}");
        ensure!(kept(&it.files()?), "earlier points are never written to");
        it.back_up(lab, "incremental").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}
