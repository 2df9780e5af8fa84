//! A VM whose disks hold the oracle's pattern.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content as Stored, DiskSpec, Subformat, VirtualMachine, VmSpec};
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::content::Content;

/// A VM under management, with what its disks hold.
#[derive(Debug)]
pub(crate) struct Machine {
    vm: VirtualMachine,
    /// The id of its context.
    pub(crate) context: String,
    /// By ordinal.
    pub(crate) disks: Vec<Content>,
    /// The ordinals of the rows of its disks.
    pub(crate) rows: BTreeMap<String, u64>,
    /// The sizes of its disks.
    pub(crate) capacities: Vec<u64>,
    generation: u32,
}

impl Machine {
    /// Makes a VM with disks of these sizes, all zeroes, and puts it under management.
    pub(crate) async fn new(
        lab: &Lab,
        name: &str,
        capacities: &[u64],
        number: u64,
    ) -> Result<Self> {
        let disk = |capacity: &u64| DiskSpec {
            capacity: *capacity,
            subformat: Subformat::MonolithicFlat,
            content: Stored::Noise { seed: 0, areas: Vec::new() },
        };
        let vm = lab.datastore.add_vm(&VmSpec::new(name, capacities.iter().map(disk).collect()))?;
        let context = lab.add(&[name]).await?.pop().context("one VM was added")?;
        let context = &context.text("/context_id")?;
        let mut rows = BTreeMap::new();
        for disk in lab.disks(context).await? {
            rows.insert(disk.number("/id")?.to_string(), disk.number("/ordinal")?);
        }
        let disks = (0..)
            .zip(capacities)
            .map(|(ordinal, capacity)| Content::zeroes(number * 100 + ordinal, *capacity));
        let disks = disks.collect::<Result<_>>()?;
        Ok(Self {
            vm,
            context: context.to_owned(),
            disks,
            rows,
            capacities: capacities.to_vec(),
            generation: 0,
        })
    }

    /// Writes a later generation to some blocks of every disk; nobody reads them at the time.
    pub(crate) fn write(&mut self, choices: &mut Choices) -> Result<()> {
        self.generation += 1;
        for (ordinal, content) in self.disks.iter_mut().enumerate() {
            let writes = content.write(self.generation, choices);
            let writes: Vec<_> = writes.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
            self.vm.disk(ordinal)?.write_all(&writes)?;
        }
        Ok(())
    }

    /// The request for a backup of all disks.
    pub(crate) fn backup(&self, kind: &str, repository: &str) -> Value {
        json!({"vm_context_id": self.context, "backup_type": kind, "repository_id": repository})
    }

    /// The request for a replication.
    pub(crate) fn replication(&self, kind: &str, format: &str) -> Value {
        json!({"vm_context_id": self.context, "replication_type": kind, "format": format})
    }
}

/// What the campaign knows of one restore point.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// What it must hold for ever.
    pub(crate) content: Content,
    /// The digests of its image and of its manifest.
    pub(crate) files: BTreeMap<PathBuf, blake3::Hash>,
    /// The point that it stands on.
    pub(crate) parent: Option<String>,
    /// The VM that it is of.
    pub(crate) context: String,
}
