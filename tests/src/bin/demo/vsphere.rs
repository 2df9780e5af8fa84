//! The same mission on a VM of a simulated vCenter: what is asked of the vCenter, what is believed, what is left there.

mod audit;
mod inventory;
mod protection;
mod recovery;

use std::time::Instant;

use anyhow::{Context as _, Result};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::datastore::FileSystem;
use hub_tests::vsphere::{Account, Guest, VsphereLab};
use hub_vsphere_peer::PeerOptions;
use serde_json::Value;

use crate::ledger::Ledger;
use crate::screen::{Screen, bytes};

const MIB: u64 = 1 << 20;

/// The VM that is protected, and the bytes of its disks and of the files on them.
const NAME: &str = "payroll";
const DISKS: [(u64, u64); 2] = [(256 * MIB, 40 * MIB), (64 * MIB, 12 * MIB)];

/// What the acts hand on to each other.
struct Stage {
    lab: VsphereLab,
    guest: Guest,
    /// The id of the vCenter's account at the hub.
    credential: String,
    /// The VM's context, once it is under management.
    context: Value,
}

/// Tells the story; answers whether every judge agreed.
pub(crate) async fn run(screen: &mut Screen) -> Result<bool> {
    let start = Instant::now();
    screen.title("Sendense Hub: a VM of a vCenter, from discovery to a proven restore");
    let mut stage = build(screen).await?;
    let told = tell(&mut stage, screen).await;
    let ledger = match told {
        Ok(ledger) => ledger,
        Err(error) => {
            screen.abandon();
            let (hub, vma) = (&stage.lab.hub.program, &stage.lab.vma.program);
            screen.say(&format!("{}\n{}", hub.tail(), vma.tail()));
            return Err(error);
        }
    };
    crate::show_tables(&ledger, screen);
    stage.lab.hub.program.stop().await?;
    stage.lab.vma.program.stop().await?;
    Ok(crate::show_score(&ledger, screen, start))
}

async fn tell(stage: &mut Stage, screen: &mut Screen) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    inventory::register(stage, screen).await?;
    inventory::discover(stage, screen, &mut ledger).await?;
    inventory::add(stage, screen).await?;
    inventory::preflight(stage, screen).await?;
    let full = protection::back_up(stage, screen, "full", &mut ledger).await?;
    let before = recovery::digests(stage)?;
    protection::change(stage, screen)?;
    let later = protection::back_up(stage, screen, "incremental", &mut ledger).await?;
    recovery::restore(
        stage,
        screen,
        [(&full, before), (&later, recovery::digests(stage)?)],
        &mut ledger,
    )
    .await?;
    audit::lie(stage, screen, &mut ledger).await?;
    inventory::leftovers(stage, screen, &mut ledger).await?;
    Ok(ledger)
}

/// Starts the vCenter, its VM, the VMA and the hub.
async fn build(screen: &mut Screen) -> Result<Stage> {
    screen.begin("vCenter");
    let vcenter = PeerOptions { vms: 4, datacenters: 2, ..PeerOptions::default() };
    let lab = VsphereLab::start(DatabaseKind::Sqlite, Account::OfHub, vcenter).await?;
    let lab = lab.context("run `cargo xtask demo --vsphere`, which installs tools")?;
    let guest = Guest::make(&lab.peer, NAME, &DISKS.map(|(capacity, _)| capacity))?;
    for (disk, (path, (capacity, files))) in guest.disks().iter().zip(DISKS).enumerate() {
        let made = path.with_extension("new");
        FileSystem::make(&made, capacity, NAME, files, 10 + disk as u64)?;
        guest.put(disk, &made)?;
    }
    let sizes = DISKS.map(|(capacity, _)| bytes(capacity)).join(" and ");
    screen.end(&[
        format!("simulated by govmomi {}, with changed areas of ours", VERSION),
        format!("{NAME}: disks of {sizes}, ext4 with files, running"),
        format!("hub {} on SQLite, VMA {}", lab.hub.url, lab.vma.url),
    ]);
    Ok(Stage { lab, guest, credential: String::new(), context: Value::Null })
}

/// The release of the simulator that Debian 12 packages.
const VERSION: &str = "0.24.2";

impl Stage {
    fn context_id(&self) -> Result<String> {
        self.context.text("/context_id")
    }
}
