//! The stage: a datastore with two VMs, a VMA and a hub, in one temporary directory.

use anyhow::{Result, ensure};
use hub_tests::api::Api;
use hub_tests::datastore::{
    Content, Datastore, DiskSpec, FileSystem, Subformat, VirtualMachine, VmSpec,
};
use hub_tests::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};
use hub_tests::tool;
use tempfile::TempDir;

use crate::screen::{Screen, bytes};

const MIB: u64 = 1 << 20;

/// Everything that the story is played on.
pub(crate) struct Stage {
    /// A client with the hub's token.
    pub(crate) api: Api,
    /// The hub.
    pub(crate) hub: Hub,
    /// The VMA.
    pub(crate) vma: Vma,
    /// Two disks, switched off.
    pub(crate) pgtest1: VirtualMachine,
    /// One disk with a snapshot chain; it runs, so it is read at its newest snapshot.
    pub(crate) web01: VirtualMachine,
    folder: TempDir,
    keep: bool,
}

impl Stage {
    /// Makes the VMs and starts the processes.
    pub(crate) async fn build(keep: bool, screen: &mut Screen) -> Result<Self> {
        ensure!(tool::present(&tool::DISK_TOOLS)?, "run `cargo xtask demo`, which installs tools");
        screen.begin("datastore");
        let folder = tempfile::Builder::new().prefix("hub-demo-").tempdir()?;
        let datastore = Datastore::create(folder.path(), "datastore1")?;
        let pgtest1 = datastore.add_vm(&VmSpec::new("pgtest1", pgtest1_disks()))?;
        let mut web01 = datastore.add_vm(&VmSpec::new("web01", web01_disks()))?;
        web01.snapshot()?;
        edit(&web01, "after the first snapshot")?;
        web01.power_on()?;
        let sizes: Vec<_> = pgtest1.disks().iter().map(|disk| bytes(disk.capacity())).collect();
        screen.end(&[
            format!("pgtest1: disks of {}, ext4 with files, switched off", sizes.join(" and ")),
            "web01: one disk of 512 MiB, ext4 with files, running on a snapshot".to_owned(),
        ]);

        screen.begin("processes");
        let lifetime = if keep { Lifetime::Detached } else { Lifetime::Owned };
        let logs = folder.path().join("logs");
        let vma = Vma::start(VmaOptions {
            name: "lab".to_owned(),
            state_dir: folder.path().join("vma"),
            datastores: vec![datastore.root().to_owned()],
            logs: logs.clone(),
            environment: Vec::new(),
            lifetime,
        });
        let vma = vma.await?;
        let hub = Hub::start(HubOptions {
            data_dir: folder.path().join("hub"),
            database_url: None,
            logs,
            environment: Vec::new(),
            lifetime,
        });
        let hub = hub.await?;
        let api = hub.api()?;
        screen.end(&[format!("hub {} on SQLite, VMA {} on the datastore", hub.url, vma.url)]);
        Ok(Self { api, hub, vma, pgtest1, web01, folder, keep })
    }

    /// The VM of this name.
    pub(crate) fn vm(&self, name: &str) -> &VirtualMachine {
        if name == "web01" { &self.web01 } else { &self.pgtest1 }
    }

    /// Changes files and blocks: pgtest1 in place, web01 by a second snapshot whose first delta holds the changes.
    pub(crate) fn change(&mut self) -> Result<()> {
        edit(&self.pgtest1, "after the full backup")?;
        let blocks = self.pgtest1.disk(1)?;
        blocks.write(blocks.capacity() - 3 * MIB, &hub_tests::datastore::noise(77, 2 << 20))?;
        self.web01.snapshot()?;
        // What the running VM writes from here on belongs to no snapshot, and must not be in any point.
        edit(&self.web01, "after the second snapshot")
    }

    /// Ends the processes and removes the directory, or says how to do it later.
    pub(crate) async fn close(mut self, screen: &Screen) -> Result<()> {
        if !self.keep {
            self.hub.program.stop().await?;
            return self.vma.program.stop().await;
        }
        self.hub.program.release();
        self.vma.program.release();
        let (hub, vma) = (self.hub.program.id(), self.vma.program.id());
        let folder = self.folder.keep();
        screen.say(&format!(
            "\nHub and VMA go on running.\n  URL    {}\n  token  {}\n  stop   kill {hub} {vma} && sleep 2 && rm -rf {}",
            self.hub.url,
            self.hub.token,
            folder.display()
        ));
        Ok(())
    }
}

/// Writes a note and rewrites a file of each disk.
fn edit(vm: &VirtualMachine, note: &str) -> Result<()> {
    for (seed, disk) in (100..).zip(vm.disks()) {
        disk.edit(|raw| {
            let files = FileSystem::of(raw);
            files.put("/note.txt", note.as_bytes())?;
            files.put("/data/file-0002.bin", &hub_tests::datastore::noise(seed, 3 << 20))?;
            files.check()
        })?;
    }
    Ok(())
}

fn pgtest1_disks() -> Vec<DiskSpec> {
    let disk = |capacity, subformat, files, seed| DiskSpec {
        capacity,
        subformat,
        content: Content::Files { name: "pgtest1".to_owned(), bytes: files, seed },
    };
    vec![
        disk(2048 * MIB, Subformat::MonolithicFlat, 150 * MIB, 1000),
        disk(512 * MIB, Subformat::MonolithicSparse, 40 * MIB, 2000),
    ]
}

fn web01_disks() -> Vec<DiskSpec> {
    let content = Content::Files { name: "web01".to_owned(), bytes: 60 * MIB, seed: 3000 };
    vec![DiskSpec { capacity: 512 * MIB, subformat: Subformat::TwoGbMaxExtentSparse, content }]
}
