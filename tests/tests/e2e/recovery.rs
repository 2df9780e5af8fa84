//! Promise P11: the recovery page, command by command, on what is left when hub, catalogue and VMA are gone.

mod page;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::datastore::{
    Content, DiskSpec, FileSystem, Subformat, VirtualMachine, VmSpec, noise,
};
use hub_tests::judge::{Image, file_digest};
use hub_tests::lab::Lab;
use hub_tests::tool;
use serde_json::json;

use page::{Page, Values};

const MIB: u64 = 1 << 20;
/// Two groups of the digest table, and a last block that is short.
const CAPACITY: u64 = 72 * MIB + 1536;
/// Where the partition with the file system begins.
const PARTITION: u64 = MIB;

/// A point that was made, and what its disk held.
struct Point {
    repository: &'static str,
    /// Below its repository.
    path: PathBuf,
    disk: usize,
    held: blake3::Hash,
}

/// Makes three points of two disks in a plain repository and in one that compresses.
async fn make_points(lab: &Lab) -> Result<Vec<Point>> {
    lab.register().await?;
    let content = |areas| Content::Noise { seed: 5, areas };
    let disk = |capacity, areas| DiskSpec {
        capacity,
        subformat: Subformat::MonolithicFlat,
        content: content(areas),
    };
    let disks = vec![disk(CAPACITY, Vec::new()), disk(8 * MIB, vec![0..MIB, 3 * MIB..5 * MIB])];
    let vm = lab.datastore.add_vm(&VmSpec::new("lost hub", disks))?;
    lab.add(&["lost hub"]).await?;
    let plain = lab.repository().await?;
    let place = lab.folder().join("compressed");
    fs::create_dir(&place)?;
    let body = json!({"name": "compressed", "path": place, "compression": "zstd"});
    let compressed = lab.api.post("/repositories", &body).await?.ok()?.text("/id")?;
    let repositories = [("plain", plain), ("compressed", compressed)];
    let files = lab.folder().join("files.raw");
    let files = FileSystem::make(&files, 32 * MIB, "lost-hub", 4 * MIB, 9)?;
    let mut points = Vec::new();
    for generation in 0..3 {
        change(&vm, &files, generation)?;
        for (repository, id) in &repositories {
            let kind = if generation == 0 { "full" } else { "incremental" };
            let body = json!({"vm_name": "lost hub", "backup_type": kind, "repository_id": id});
            let run = lab.api.run("/backups", &body).await?;
            for (disk, backup) in run.list("/backups")?.iter().enumerate() {
                ensure!(backup.text("/backup_type")? == kind, "{backup:#}");
                points.push(Point {
                    repository,
                    path: backup.text("/repository_path")?.into(),
                    disk,
                    held: Image::new(&vm.disk(disk)?.top(), "vmdk").digest()?,
                });
            }
        }
    }
    lab.check_logs()?;
    Ok(points)
}

/// What a guest has done before each backup.
fn change(vm: &VirtualMachine, files: &FileSystem, generation: u64) -> Result<()> {
    let first = vm.disk(0)?;
    files.put("/etc/hostname", format!("generation {generation}\n").as_bytes())?;
    first.write(PARTITION, &fs::read(files.image())?)?;
    match generation {
        0 => first.write(0, &partition_table()?)?,
        1 => first.write(50 * MIB, &noise(1, 300_032))?,
        _ => {
            // The second group of the table, the short last block, and zeroes where there was data.
            first.write(70 * MIB, &noise(2, 65_536))?;
            first.write(CAPACITY - 1536, &noise(3, 1536))?;
            first.write(50 * MIB, &[0; 131_072])?;
        }
    }
    vm.disk(1)?.write(generation * 65_536, &noise(40 + generation, 65_536))
}

/// One partition of Linux, from sector 2048 on.
fn partition_table() -> Result<Vec<u8>> {
    let mut sector = vec![0; 512];
    let sectors = u32::try_from(32 * MIB / 512)?;
    let entry = [&[0, 0, 0, 0, 0x83, 0, 0, 0][..], &2048_u32.to_le_bytes(), &sectors.to_le_bytes()];
    sector.splice(446..462, entry.concat());
    sector.splice(510.., [0x55, 0xAA]);
    Ok(sector)
}

/// What is left of a site: its repositories, carried away to another place.
struct Left {
    folder: PathBuf,
    points: Vec<Point>,
}

impl Left {
    /// Ends everything that could help, and takes it away.
    async fn of(lab: &mut Lab) -> Result<Self> {
        let points = make_points(lab).await?;
        lab.hub.program.kill()?;
        lab.vma.program.kill()?;
        let folder = lab.folder().join("left");
        fs::create_dir(&folder)?;
        fs::rename(lab.hub.data_dir().join("repository"), folder.join("plain"))?;
        fs::rename(lab.folder().join("compressed"), folder.join("compressed"))?;
        fs::remove_dir_all(lab.hub.data_dir())?;
        Ok(Self { folder, points })
    }

    fn values(&self, point: &Point, out: &str) -> Values {
        let repository = self.folder.join(point.repository);
        let point = repository.join(&point.path);
        Values { repository, point, out: self.folder.join(out) }
    }

    /// The newest point of a disk in each repository.
    fn newest(&self, disk: usize) -> Result<[&Point; 2]> {
        let newest = |repository: &str| {
            let mut of = self.points.iter().rev();
            of.find(|it| it.disk == disk && it.repository == repository).context("a point")
        };
        Ok([newest("plain")?, newest("compressed")?])
    }
}

/// Every command but those that mount something, for every point; the costly ones for the newest of each chain.
fn follow(page: &Page, left: &Left) -> Result<()> {
    for (number, point) in left.points.iter().enumerate() {
        let values = left.values(point, &format!("point-{number}"));
        let is_newest = left.newest(0)?.iter().any(|it| it.path == point.path);
        let more = ["Compare it with its manifest", "Move the repository"];
        let sections = [
            &["Say where things are", "Find the points", "Choose one and check its chain"][..],
            &["Convert it"],
            if is_newest { &more } else { &[] },
        ];
        let said = page.run(&sections.concat(), &values)?;
        judge(left, point, &values, &said).with_context(|| said.clone())?;
        if is_newest {
            judge_proof(&values, &said).with_context(|| said.clone())?;
        }
        fs::remove_dir_all(&values.out)?;
    }
    Ok(())
}

fn judge(left: &Left, point: &Point, values: &Values, said: &str) -> Result<()> {
    let raw = values.out.join("disk.raw");
    ensure!(file_digest(&raw)? == point.held, "the raw image is not the disk as it was");
    for format in ["qcow2", "vmdk"] {
        let image = values.out.join(format!("disk.{format}"));
        let image = Image::new(&image, format);
        ensure!(image.info()?.get("backing-filename").is_none(), "it stands on something");
        image.compare(Image::new(&raw, "raw"))?;
    }
    let here = left.points.iter().filter(|it| it.repository == point.repository);
    for (wanted, points) in
        [("\"vm_name\":\"lost hub\"", here.clone().count()), ("\"backup_type\":\"full\"", 2)]
    {
        let told = said.lines().filter(|it| *it == wanted).count();
        ensure!(told == points, "{wanted} is told {told} times of {points}");
    }
    for other in here {
        let image = left.folder.join(other.repository).join(&other.path).display().to_string();
        ensure!(said.lines().any(|it| it == image), "{image} is not listed");
    }
    ensure!(!said.contains("DAMAGED"), "a sound image is called damaged");
    Ok(())
}

fn judge_proof(values: &Values, said: &str) -> Result<()> {
    for expected in
        ["the header is whole", "the table is whole", "1153 blocks, 0 of them different"]
    {
        ensure!(said.contains(expected), "nobody said `{expected}`");
    }
    // The repository is gone from where it was; its copy opens by itself.
    ensure!(said.contains(&values.out.join("moved").display().to_string()), "no moved chain");
    ensure!(said.matches("Images are identical.").count() == 2, "the copy of one disk differs");
    Ok(())
}

/// The commands that compare find what is damaged, and where.
fn find_damage(page: &Page, left: &Left) -> Result<()> {
    let [point, _] = left.newest(1)?;
    let values = left.values(point, "damaged");
    let start = ["Say where things are", "Choose one and check its chain"];
    page.run(&[&start[..], &["Convert it"]].concat(), &values)?;
    let compare = [&start[..], &["Compare it with its manifest"]].concat();
    flip(&values.out.join("disk.raw"), 5 * 65_536 + 777)?;
    let said = page.run(&compare, &values)?;
    ensure!(said.contains("DIFFERENT at 327680\n128 blocks, 1 of them different"), "{said}");

    let manifest = values.point.with_extension("manifest");
    for (at, whole, broken) in [(16_384 + 77, "header", "table"), (120, "table", "header")] {
        let kept = fs::read(&manifest)?;
        flip(&manifest, at)?;
        let said = page.run(&compare, &values)?;
        ensure!(said.contains(&format!("the {whole} is whole")), "{whole}: {said}");
        ensure!(!said.contains(&format!("the {broken} is whole")), "{broken}: {said}");
        fs::write(&manifest, kept)?;
    }
    Ok(())
}

fn flip(path: &Path, at: u64) -> Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 4], at)?)
}

/// The commands that mount; what a file held at each point is found in it.
fn take_files(page: &Page, left: &Left) -> Result<()> {
    for point in left.newest(0)? {
        let values = left.values(point, "files-of-one");
        let start = ["Say where things are", "Choose one and check its chain"];
        page.run(&[&start[..], &["Take single files out of it"]].concat(), &values)?;
        let found = fs::read_to_string(values.out.join("etc/hostname"))?;
        ensure!(found == "generation 2\n", "{found}");
        fs::remove_dir_all(&values.out)?;
    }
    Ok(())
}

#[tokio::test]
async fn p11_every_command_of_the_recovery_page_does_what_it_says() {
    let tools = ["b3sum", "nbdfuse", "partx", "split", "od", "awk"];
    if !tool::present(&tools).unwrap() {
        return;
    }
    let page = Page::read(include_str!("../../../docs/recovery.md")).unwrap();
    let part = async |lab: &mut Lab| {
        let left = Left::of(lab).await?;
        follow(&page, &left)?;
        find_damage(&page, &left)?;
        if page::may_mount()? {
            take_files(&page, &left)?;
        }
        page.was_run()
    };
    Lab::play(DatabaseKind::Sqlite, part).await.unwrap();
}
