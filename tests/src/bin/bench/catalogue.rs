//! The catalogue: adding, refreshing and listing many VMs through the hub's API with a real VMA.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use hub_tests::api::{Api, Fields as _};
use hub_tests::datastore::Datastore;
use hub_tests::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};
use serde_json::{Value, json};

use crate::CatalogueArguments;
use crate::figures::{self, Figure, percentile};
use crate::inventory;
use crate::peer::Rows;

/// Starts that the median of a cold start is taken from.
const COLD_STARTS: usize = 7;

/// Bulk inserts that the peer's median is taken from.
const PEER_RUNS: usize = 5;

/// Rounds over all pages that the latencies are taken from: enough that one moment in which the machine was busy
/// with something else is not the slowest hundredth.
const LIST_ROUNDS: usize = 20;

#[expect(clippy::print_stdout, reason = "progress of a long run")]
pub(crate) async fn run(arguments: &CatalogueArguments) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("hub-bench-").tempdir()?;
    let mut figures = Vec::new();
    println!("cold start on an empty SQLite …");
    figures.push(cold_start(folder.path()).await?);
    for (kind, name) in [(DatabaseKind::Sqlite, "SQLite"), (DatabaseKind::MariaDb, "MariaDB")] {
        println!("{name}: {} VMs with three disks each …", arguments.vms);
        let Some(database) = TestDatabase::create(kind).await? else { continue };
        let place = folder.path().join(name);
        let datastore = Datastore::create(&place, "datastore1")?;
        inventory::make(datastore.root(), arguments.vms)?;
        let bench = Bench { name, kind, place, datastore, database, vms: arguments.vms };
        bench.run(&mut figures).await?;
    }
    let title = format!("catalogue, {} VMs, {} disks", arguments.vms, arguments.vms * 3);
    figures::show(&title, &figures, arguments.json.as_deref())
}

/// From starting the process to the first 200 of `/health`, in a fresh data directory each time.
async fn cold_start(folder: &Path) -> Result<Figure> {
    let http = reqwest_client()?;
    let mut took = Vec::new();
    for number in 0..COLD_STARTS {
        let started = Instant::now();
        let mut hub = hub(&folder.join(format!("cold-{number}")), None).await?;
        let url = format!("{}/health", hub.url);
        ensure!(http.get(&url).send().await?.status().is_success(), "{url} is not healthy");
        took.push(started.elapsed());
        hub.program.stop().await?;
    }
    let median = percentile(&mut took, 0.5);
    Ok(Figure::at_most("SQLite", "cold start to the first 200, median", median, 100.0, "ms"))
}

fn reqwest_client() -> Result<reqwest::Client> {
    // An error only says that a provider is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

async fn hub(place: &Path, database_url: Option<String>) -> Result<Hub> {
    let options = HubOptions {
        data_dir: place.join("hub"),
        database_url,
        logs: place.join("logs"),
        environment: Vec::new(),
        lifetime: Lifetime::Owned,
    };
    Hub::start(options).await
}

struct Bench {
    name: &'static str,
    kind: DatabaseKind,
    place: std::path::PathBuf,
    datastore: Datastore,
    database: TestDatabase,
    vms: usize,
}

impl Bench {
    async fn run(&self, figures: &mut Vec<Figure>) -> Result<()> {
        let vma = VmaOptions {
            name: "bench".to_owned(),
            state_dir: self.place.join("vma"),
            datastores: vec![self.datastore.root().to_owned()],
            logs: self.place.join("logs"),
            environment: Vec::new(),
            lifetime: Lifetime::Owned,
        };
        let mut vma = Vma::start(vma).await?;
        let mut hub = hub(&self.place, Some(self.database.url.clone())).await?;
        let api = hub.api()?;
        let node = json!({"name": "bench", "url": vma.url, "token": vma.token});
        api.post("/vma-nodes", &node).await?.ok()?;

        // Warm the page cache, and learn what a discovery costs that stores nothing.
        self.discover(&api).await?;
        let discovered = self.discover(&api).await?;
        let (added, answer) = self.add(&api).await?;
        ensure!(answer.number("/added")? == self.vms as u64, "not all were added: {answer:#}");
        let (unchanged, answer) = self.add(&api).await?;
        ensure!(answer.number("/unchanged")? == self.vms as u64, "a refresh wrote: {answer:#}");
        let grown = inventory::grow_some(self.datastore.root(), self.vms)?;
        let (changed, answer) = self.add(&api).await?;
        ensure!(answer.number("/updated")? > 0, "no change was found: {answer:#}");

        let mut pages = self.list(&hub).await?;
        let memory = peak_memory(hub.program.id())?;
        hub.program.stop().await?;
        vma.program.stop().await?;

        let peer = self.peer().await?;
        let own = added.saturating_sub(discovered);
        let secs = |took: Duration| format!("{:.2} s", took.as_secs_f64());
        let ratio = |took: Duration| took.as_secs_f64() / peer.as_secs_f64();
        let name = self.name;
        figures.extend([
            Figure::plain(name, "bulk insert by the database's own client, median", secs(peer)),
            Figure::plain(name, "discovery that stores nothing", secs(discovered)),
            Figure::plain(name, "adding all, whole call", secs(added)),
            Figure::at_most(
                name,
                "adding: catalogue's part ÷ client's insert",
                ratio(own),
                2.0,
                "",
            ),
            Figure::at_most(name, "adding: whole call ÷ client's insert", ratio(added), 4.0, ""),
            Figure::plain(name, "refreshing, nothing changed, whole call", secs(unchanged)),
            Figure::plain(name, "refreshing, one disk in a hundred changed", secs(changed)),
            Figure::plain(name, "disks that had changed", grown.to_string()),
            Figure::plain(
                name,
                "page of 100 VMs with disks, p50",
                format!("{:.2} ms", percentile(&mut pages, 0.5)),
            ),
            Figure::at_most(
                name,
                "page of 100 VMs with disks, p99",
                percentile(&mut pages, 0.99),
                5.0,
                "ms",
            ),
            Figure::at_most(name, "hub's peak memory", memory, 256.0, "MiB"),
        ]);
        Ok(())
    }

    async fn discover(&self, api: &Api) -> Result<Duration> {
        let started = Instant::now();
        let answer = api.post("/discovery/discover-vms", &json!({})).await?.ok()?;
        ensure!(answer.list("/vms")?.len() == self.vms, "not all were discovered");
        Ok(started.elapsed())
    }

    async fn add(&self, api: &Api) -> Result<(Duration, Value)> {
        let started = Instant::now();
        let mut answer = api.post("/discovery/add-vms", &json!({"all": true})).await?.ok()?;
        let took = started.elapsed();
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("results");
        }
        Ok((took, answer))
    }

    /// Walks all pages, one client, one request at a time; a page counts until its last byte has arrived.
    async fn list(&self, hub: &Hub) -> Result<Vec<Duration>> {
        let http = reqwest_client()?;
        let mut took = Vec::new();
        for _ in 0..LIST_ROUNDS {
            let (mut after, mut seen) = (String::new(), 0);
            loop {
                let url = format!("{}/api/v1/vm-contexts?limit=100{after}", hub.url);
                let started = Instant::now();
                let answer = http.get(url).bearer_auth(&hub.token).send().await?;
                let bytes = answer.error_for_status()?.bytes().await?;
                took.push(started.elapsed());
                let page: Value = serde_json::from_slice(&bytes)?;
                seen += page.list("/items")?.len();
                match page.get("next").and_then(Value::as_str) {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            ensure!(seen == self.vms, "the pages hold {seen} VMs");
        }
        Ok(took)
    }

    async fn peer(&self) -> Result<Duration> {
        let rows = Rows::dump(self.kind, &self.database.url, &self.place)?;
        let mut took = Vec::new();
        for _ in 0..PEER_RUNS {
            took.push(rows.insert().await?);
        }
        took.sort_unstable();
        took.get(PEER_RUNS / 2).copied().context("no run")
    }
}

/// The most memory that a process had resident, in MiB.
pub(crate) fn peak_memory(id: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
