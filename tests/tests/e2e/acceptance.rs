//! The five acceptance stories, each on every database, through the HTTP API with a real VMA.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat, VirtualMachine, VmSpec};
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::{Value, json};

/// The capacities of pgtest1's disks, in bytes: 102 GB and 5 GB, as the stories name them.
const CAPACITIES: [u64; 2] = [109_521_666_048, 5_368_709_120];

/// One test per story and database; the modules are named after the stories.
macro_rules! on_every_database {
    ($($story:ident),+ $(,)?) => { $(
        mod $story {
            use hub_testkit::database::DatabaseKind;

            #[tokio::test]
            async fn on_sqlite() {
                super::play(DatabaseKind::Sqlite, super::$story).await.unwrap();
            }

            #[tokio::test]
            async fn on_mariadb() {
                super::play(DatabaseKind::MariaDb, super::$story).await.unwrap();
            }

            #[tokio::test]
            async fn on_postgres() {
                super::play(DatabaseKind::Postgres, super::$story).await.unwrap();
            }
        }
    )+ };
}

on_every_database!(
    story_1_added_disks_are_rows_without_a_job,
    story_2_a_replication_links_the_same_rows_and_its_deletion_keeps_them,
    story_3_a_full_backup_of_disk_0_holds_the_bytes_of_the_source,
    story_4_two_disks_have_two_chains,
    story_5_a_legacy_vm_without_rows_gets_them_from_the_vma,
);

/// What a story starts with: pgtest1 in the datastore, and under management.
struct Managed<'a> {
    lab: &'a Lab,
    vm: VirtualMachine,
    context: Value,
}

async fn story_1_added_disks_are_rows_without_a_job(it: Managed<'_>) -> Result<()> {
    ensure!(it.context.text("/current_status")? == "discovered", "{:#}", it.context);
    let rows = it.rows().await?;
    ensure!(rows.len() == CAPACITIES.len(), "two disks are two rows: {rows:#?}");
    for (ordinal, (row, capacity)) in (0..).zip(rows.iter().zip(CAPACITIES)) {
        ensure!(row.is_null_at("/job_id"), "no job has touched it: {row:#}");
        ensure!(row.number("/capacity_bytes")? == capacity, "{row:#}");
        ensure!(row.number("/ordinal")? == ordinal, "{row:#}");
        ensure!(row.text("/disk_id")? == format!("disk-{}", 2000 + ordinal), "{row:#}");
    }
    // Adding it again finds everything as it is.
    it.lab.add(&["pgtest1"]).await?;
    ensure!(it.rows().await? == rows, "adding a VM twice changes nothing");
    Ok(())
}

async fn story_2_a_replication_links_the_same_rows_and_its_deletion_keeps_them(
    it: Managed<'_>,
) -> Result<()> {
    let before = it.ids().await?;
    let body = json!({"vm_name": "pgtest1", "replication_type": "initial"});
    let job = it.lab.api.run("/replications", &body).await?;
    let id = job.text("/id")?;
    let rows = it.rows().await?;
    ensure!(it.ids().await? == before, "the same rows, none twice: {rows:#?}");
    for row in &rows {
        ensure!(row.text("/job_id")? == id, "linked to {id}: {row:#}");
    }
    for disk in job.list("/disks")? {
        let replica = it.lab.hub.replica(&disk.text("/replica_path")?);
        let ordinal = usize::try_from(disk.number("/disk_id")?)?;
        it.vm.disk(ordinal)?.compare(Image::new(&replica, "raw"))?;
    }
    it.lab.api.delete(&format!("/replications/{id}")).await?.ok()?;
    let rows = it.rows().await?;
    ensure!(it.ids().await? == before, "deleting the job keeps the rows: {rows:#?}");
    ensure!(rows.iter().all(|row| row.is_null_at("/job_id")), "and unlinks them: {rows:#?}");
    Ok(())
}

async fn story_3_a_full_backup_of_disk_0_holds_the_bytes_of_the_source(
    it: Managed<'_>,
) -> Result<()> {
    let backups = it.back_up(json!(0)).await?;
    let [backup] = backups.as_slice() else { anyhow::bail!("one disk: {backups:#?}") };
    it.judge(backup, 0).await
}

async fn story_4_two_disks_have_two_chains(it: Managed<'_>) -> Result<()> {
    // The ordinal, and the hypervisor's own id.
    let first = it.back_up(json!(0)).await?;
    let second = it.back_up(json!("disk-2001")).await?;
    let mut fulls = Vec::new();
    for (ordinal, backups) in [&first, &second].into_iter().enumerate() {
        let [backup] = backups.as_slice() else { anyhow::bail!("one disk: {backups:#?}") };
        it.judge(backup, ordinal).await?;
        let path = format!("/backup/chain?vm_name=pgtest1&disk_id={ordinal}");
        let answer = it.lab.api.get(&path).await?.ok()?;
        let chains = answer.list("/chains")?;
        let [chain] = chains.as_slice() else { anyhow::bail!("one chain: {answer:#}") };
        ensure!(chain.number("/count")? == 1, "{chain:#}");
        ensure!(chain.number("/stored_bytes")? > 0, "{chain:#}");
        let full = chain.text("/full_backup_id")?;
        ensure!(full == backup.text("/backup_id")?, "the disk's own point: {answer:#}");
        ensure!(chain.list("/points")?.len() == 1, "{chain:#}");
        fulls.push(full);
    }
    ensure!(fulls.first() != fulls.last(), "two chains, not one: {fulls:?}");
    Ok(())
}

async fn story_5_a_legacy_vm_without_rows_gets_them_from_the_vma(it: Managed<'_>) -> Result<()> {
    it.lab.database.execute("DELETE FROM vm_disks").await?;
    ensure!(it.rows().await?.is_empty(), "a legacy VM has a context and no disk rows");
    let body = json!({"vm_name": "pgtest1", "replication_type": "initial"});
    let job = it.lab.api.run("/replications", &body).await?;
    let rows = it.rows().await?;
    ensure!(rows.len() == CAPACITIES.len(), "the VMA was asked: {rows:#?}");
    for (row, capacity) in rows.iter().zip(CAPACITIES) {
        ensure!(row.text("/job_id")? == job.text("/id")?, "{row:#}");
        ensure!(row.number("/capacity_bytes")? == capacity, "{row:#}");
    }
    Ok(())
}

/// Sets up what every story starts with, tells it, and looks for complaints in the logs.
async fn play(
    kind: DatabaseKind,
    story: impl AsyncFnOnce(Managed<'_>) -> Result<()>,
) -> Result<()> {
    let part = async |lab: &mut Lab| {
        let vm = lab.datastore.add_vm(&pgtest1())?;
        lab.register().await?;
        let context = lab.add(&["pgtest1"]).await?.pop().context("one VM was added")?;
        story(Managed { lab, vm, context }).await?;
        lab.check_logs()
    };
    Lab::play(kind, part).await
}

/// Two thin disks with data at both ends and in the middle.
fn pgtest1() -> VmSpec {
    let disk = |capacity: u64, subformat, seed| {
        let middle = capacity / 2 + 4096;
        let areas = vec![0..1_500_160, middle..middle + 3_000_320, capacity - 70_144..capacity];
        DiskSpec { capacity, subformat, content: Content::Noise { seed, areas } }
    };
    let [first, second] = CAPACITIES;
    let disks = vec![
        disk(first, Subformat::MonolithicSparse, 10),
        disk(second, Subformat::TwoGbMaxExtentSparse, 20),
    ];
    VmSpec::new("pgtest1", disks)
}

impl Managed<'_> {
    /// The disk rows as they are now.
    async fn rows(&self) -> Result<Vec<Value>> {
        self.lab.disks(&self.context.text("/context_id")?).await
    }

    async fn ids(&self) -> Result<Vec<u64>> {
        self.rows().await?.iter().map(|row| row.number("/id")).collect()
    }

    /// A full backup of one disk.
    async fn back_up(&self, disk_id: Value) -> Result<Vec<Value>> {
        let body = json!({
            "vm_name": "pgtest1",
            "disk_id": disk_id,
            "backup_type": "full",
            "repository_id": self.lab.repository().await?,
        });
        self.lab.api.run("/backup/start", &body).await?.list("/backups")
    }

    /// Fails unless the image of a point is sound, as large as the disk, and equal to it.
    async fn judge(&self, backup: &Value, ordinal: usize) -> Result<()> {
        ensure!(backup.number("/disk_id")? == u64::try_from(ordinal)?, "{backup:#}");
        ensure!(backup.flag("/proof/agrees")?, "both ends agree: {backup:#}");
        let repositories = self.lab.api.all("/repositories").await?;
        let repository = repositories.first().context("there is a repository")?;
        let path = Path::new(&repository.text("/path")?).join(backup.text("/repository_path")?);
        let image = Image::new(&path, "qcow2");
        image.check()?;
        let disk = self.vm.disk(ordinal)?;
        let size = image.virtual_size()?;
        ensure!(size == disk.capacity(), "{size} bytes instead of {}", disk.capacity());
        disk.compare(image)
    }
}
