//! A VM that writes to its disks while it is backed up.

use anyhow::{Context as _, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::judge::Image;
use hub_tests::lab::Lab;

use super::play;
use super::protected::{MIB, Protected, failed_with, small_disk};

#[tokio::test]
async fn a_running_vm_is_read_at_its_snapshot_and_refused_without_one() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("busy", vec![small_disk(1), small_disk(2)]);
        let mut it = Protected::new(lab, &spec).await?;
        it.vm.power_on()?;

        let run = it.start(lab, "full").await?;
        let run = lab.api.ended(&run, |_| ()).await?;
        failed_with(&run, "source/vm-running-without-snapshot")?;
        let detail = run.text("/backups/0/error/detail")?;
        ensure!(detail.contains("take a snapshot or power the VM off"), "what to do: {detail}");
        ensure!(it.files()?.is_empty(), "nothing partial stays");

        it.vm.snapshot()?;
        // What the VM writes after the snapshot is not part of that instant.
        it.vm.disk(0)?.write(2 * MIB, &noise(7, 65_536))?;
        let run = lab.api.run("/backups", &it.request("full")).await?;
        for (backup, disk) in run.list("/backups")?.iter().zip(it.vm.disks()) {
            let frozen = disk.frozen().context("there is a snapshot")?;
            it.judge(backup, Image::new(&frozen, "vmdk"))?;
        }
        let first = it.image(run.list("/backups")?.first().context("two disks")?)?;
        let newest = it.vm.disk(0)?.compare(Image::new(&first, "qcow2"));
        ensure!(newest.is_err(), "the point holds the snapshot, not what was written since");

        it.vm.power_off()?;
        it.back_up(lab, "incremental").await?;
        Ok(())
    };
    // The VMA tells its refusal, and the hub how the run ended.
    play(&["vm-running-without-snapshot", "has no snapshot to read from"], part).await.unwrap();
}
