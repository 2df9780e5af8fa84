//! Hub, VMA and VMs of a campaign, and everything that is known to be in their repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::lab::{Lab, Surroundings};

use crate::choices::Choices;
use crate::content::Content;
use crate::machine::{Machine, Point};

/// Which process is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    /// The hub.
    Hub,
    /// The VMA.
    Vma,
}

impl Victim {
    /// Its name in what is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Vma => "vma",
        }
    }
}

/// Where everything happens; what is lost in it is kept for whoever looks for the reason.
pub(crate) struct World {
    /// The processes.
    pub(crate) lab: Lab,
    /// What they found around them at their start.
    pub(crate) around: Surroundings,
    /// The VMs.
    pub(crate) machines: Vec<Machine>,
    /// Every restore point that was ever seen and is not known to be gone, by its id.
    pub(crate) points: BTreeMap<String, Point>,
    /// Points that somebody was asked to delete, done or not.
    pub(crate) leaving: BTreeSet<String>,
    /// Points whose deletion has begun and not ended, with their VMs.
    pub(crate) deleting: BTreeMap<String, String>,
    /// What each replica holds if its manifest has this digest.
    pub(crate) replicas: BTreeMap<PathBuf, (blake3::Hash, Content)>,
    /// The repository's id.
    pub(crate) repository: String,
    /// The repository's directory.
    pub(crate) root: PathBuf,
    made: u64,
}

impl World {
    /// A hub, a VMA and some VMs with disks of these sizes.
    pub(crate) async fn new(
        kind: DatabaseKind,
        machines: &[&[u64]],
        around: Surroundings,
    ) -> Result<Option<Self>> {
        let lab = Box::pin(Lab::start_in(kind, around.clone())).await?;
        let Some(lab) = lab else { return Ok(None) };
        lab.register().await?;
        let repository = lab.api.all("/repositories").await?.pop().context("there is one")?;
        let mut world = Self {
            repository: repository.text("/id")?,
            root: repository.text("/path")?.into(),
            lab,
            around,
            machines: Vec::new(),
            points: BTreeMap::new(),
            leaving: BTreeSet::new(),
            deleting: BTreeMap::new(),
            replicas: BTreeMap::new(),
            made: 0,
        };
        for capacities in machines {
            world.add_machine(capacities).await?;
        }
        Ok(Some(world))
    }

    /// One more VM, and where it stands in the list.
    pub(crate) async fn add_machine(&mut self, capacities: &[u64]) -> Result<usize> {
        self.made += 1;
        let name = format!("machine-{}", self.made);
        let machine = Machine::new(&self.lab, &name, capacities, self.made).await?;
        self.machines.push(machine);
        Ok(self.machines.len() - 1)
    }

    /// A VM by its place.
    pub(crate) fn machine(&self, place: usize) -> Result<&Machine> {
        self.machines.get(place).context("there is such a VM")
    }

    /// Writes a later generation to a VM.
    pub(crate) fn write(&mut self, place: usize, choices: &mut Choices) -> Result<()> {
        self.machines.get_mut(place).context("there is such a VM")?.write(choices)
    }

    /// What a disk of a VM holds now.
    pub(crate) fn content(&self, context: &str, ordinal: u64) -> Result<Content> {
        let machine = self.machines.iter().find(|it| it.context == context);
        let disks = &machine.context("a point of a VM that nobody made")?.disks;
        let disk = disks.get(usize::try_from(ordinal)?).cloned();
        disk.context("a point of a disk that the VM does not have")
    }

    /// The points of a VM that nothing stands on.
    pub(crate) fn tips(&self, context: &str) -> Vec<String> {
        let parents: BTreeSet<_> =
            self.points.values().filter_map(|it| it.parent.as_ref()).collect();
        let free = |id: &&String| !parents.contains(id);
        let of_vm = self.points.iter().filter(|(_, point)| point.context == context);
        of_vm.map(|(id, _)| id).filter(free).cloned().collect()
    }

    /// How many points there are of a VM.
    pub(crate) fn point_count(&self, context: &str) -> usize {
        self.points.values().filter(|it| it.context == context).count()
    }

    /// Starts one process again, armed or not.
    pub(crate) async fn restart(
        &mut self,
        victim: Victim,
        armed: &[(String, String)],
    ) -> Result<()> {
        match victim {
            Victim::Hub => self.lab.hub.restart_once_with(armed).await,
            Victim::Vma => self.lab.vma.restart_once_with(armed).await,
        }
    }

    /// Kills one process.
    pub(crate) fn kill(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Victim::Hub => self.lab.hub.program.kill(),
            Victim::Vma => self.lab.vma.program.kill(),
        }
    }

    /// Whether a process has ended.
    pub(crate) fn has_ended(&mut self, victim: Victim) -> Result<bool> {
        let ended = match victim {
            Victim::Hub => self.lab.hub.program.has_ended()?,
            Victim::Vma => self.lab.vma.program.has_ended()?,
        };
        Ok(ended.is_some())
    }

    /// Starts again what has ended.
    pub(crate) async fn revive(&mut self) -> Result<()> {
        for victim in [Victim::Vma, Victim::Hub] {
            if self.has_ended(victim)? {
                self.restart(victim, &[]).await?;
            }
        }
        Ok(())
    }

    /// The directory of restored files.
    pub(crate) fn restores(&self) -> PathBuf {
        self.lab.hub.data_dir().join("restores")
    }

    /// The directory of replicas.
    pub(crate) fn replica_dir(&self) -> PathBuf {
        self.lab.hub.data_dir().join("replicas")
    }

    /// Copies everything to a place that stays, with both processes stopped first.
    pub(crate) fn keep(&mut self, evidence: &Path) -> Result<()> {
        self.kill(Victim::Hub)?;
        self.kill(Victim::Vma)?;
        std::fs::create_dir_all(evidence)?;
        let copied = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .args([self.lab.folder(), evidence])
            .status()?;
        if !copied.success() {
            bail!("the evidence cannot be copied to {}", evidence.display());
        }
        Ok(())
    }
}
