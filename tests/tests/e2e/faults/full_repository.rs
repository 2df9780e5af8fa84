//! Promise P5: a repository that is full fails the job with what to do, and keeps what it had.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Subformat, VmSpec, noise};
use hub_tests::lab::Lab;
use hub_tests::tool;
use serde_json::json;

use super::play;
use super::protected::{MIB, Protected, disk, failed_with};

/// A file system of its own, unmounted when this is dropped.
struct SmallFileSystem {
    path: PathBuf,
}

impl SmallFileSystem {
    /// Mounts one in memory; nothing, said loudly, where that is refused and not required.
    fn mount(path: &Path, mib: u64) -> Result<Option<Self>> {
        fs::create_dir_all(path)?;
        let (size, place) = (format!("size={mib}m"), path.display().to_string());
        match tool::run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &place]) {
            Ok(_) => Ok(Some(Self { path: path.to_owned() })),
            Err(error) => {
                let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
                ensure!(!required, "mounting is refused and required: {error:#}");
                skipped(&error);
                Ok(None)
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(error: &anyhow::Error) {
    eprintln!("SKIPPED: a small file system cannot be mounted: {error:#}");
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Lazily, since the hub may still look at it.
        drop(tool::run("umount", &["-l", &self.path.display().to_string()]));
    }
}

#[tokio::test]
async fn p5_a_full_repository_fails_the_job_keeps_its_points_and_works_again_with_room() {
    let part = async |lab: &mut Lab| {
        let place = lab.folder().join("small");
        let Some(_mounted) = SmallFileSystem::mount(&place, 12)? else { return Ok(()) };
        let body = json!({"name": "small", "path": place});
        let repository = lab.api.post("/repositories", &body).await?.ok()?.text("/id")?;
        let areas = vec![0..2 * MIB, 2 * MIB..4 * MIB];
        let disk = disk(32 * MIB, Subformat::MonolithicFlat, 1, areas);
        let spec = VmSpec::new("growing", vec![disk]);
        let it = Protected::in_repository(lab, &spec, repository.clone(), place.clone()).await?;
        let backups = it.back_up(lab, "full").await?;
        let before = it.files()?;

        it.vm.disk(0)?.write(10 * MIB, &noise(2, usize::try_from(20 * MIB)?))?;
        for kind in ["incremental", "full"] {
            let run = it.start(lab, kind).await?;
            let run = lab.api.ended(&run, |_| ()).await?;
            failed_with(&run, "repository/full")?;
            let detail = run.text("/backups/0/error/detail")?;
            ensure!(detail.contains("free space"), "it says what to do: {detail}");
            it.unchanged_since(&before)?;
        }
        // Nor is it another story without room for even the first byte.
        let filler = place.join("filler");
        let filled = fs::write(&filler, vec![1; usize::try_from(16 * MIB)?]);
        ensure!(filled.is_err(), "the file system is full");
        let run = it.start(lab, "full").await?;
        failed_with(&lab.api.ended(&run, |_| ()).await?, "repository/full")?;
        fs::remove_file(&filler)?;
        it.unchanged_since(&before)?;
        for point in &backups {
            it.verify(lab, point).await?;
        }

        // With room the same request succeeds; nothing has to be repaired.
        let size = ["-o", "remount,size=64m", &place.display().to_string()];
        tool::run("mount", &size)?;
        it.back_up(lab, "incremental").await?;
        let works = lab.api.post(&format!("/repositories/{repository}/test"), &json!({})).await?;
        ensure!(works.ok()?.flag("/ok")?, "the repository works");
        Ok(())
    };
    play(&["no-space", "repository/full", "a disk was not copied", "a backup ended badly"], part)
        .await
        .unwrap();
}
