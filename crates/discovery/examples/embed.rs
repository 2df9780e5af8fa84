//! The discovery engine inside another program: a source of its own, and a store that it brings along.
//!
//! Any `Store` will do; here it is the one that lives in memory.

#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use hub_discovery::{AddVms, Discovery, Options, SourceChoice, Wanted};
use hub_domain::access::VmaNode;
use hub_domain::capacity::Capacity;
use hub_domain::disk::{DiskFacts, DiskKey};
use hub_domain::fault::Fault;
use hub_domain::inventory::{SeenInventory, SeenVm};
use hub_domain::source::CopyStatus;
use hub_ports::{CopyOrder, InventoryQuery, NodeIdentity, SourceError, SourceNode, Store};
use hub_testkit::{FixedClock, MemStore, SeqIds, fixtures};

/// A source that has one VM, and copies nothing.
struct Shelf;

impl Shelf {
    fn disks() -> Result<Vec<DiskFacts>> {
        let disk = |key: &str, bytes| -> Result<DiskFacts> {
            Ok(DiskFacts {
                key: DiskKey::new(key)?,
                label: "Hard disk".to_owned(),
                vmdk_path: format!("[shelf] pgtest1/{key}.vmdk"),
                datastore: "shelf".to_owned(),
                capacity: Capacity::new(bytes)?,
                provisioning_type: None,
                bus: None,
                unit_number: None,
                backing_uuid: None,
                conditions: Default::default(),
            })
        };
        Ok(vec![disk("disk-2000", 109_521_666_048)?, disk("disk-2001", 5_368_709_120)?])
    }
}

fn no_copies() -> SourceError {
    SourceError::Refused(Fault::new("shelf/no-copies", "a shelf copies nothing"))
}

#[async_trait]
impl SourceNode for Shelf {
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        let (version, source_kind) = ("1".to_owned(), "folder".to_owned());
        Ok(NodeIdentity { name: node.name.clone(), version, source_kind, source_host: None })
    }

    async fn inventory(
        &self,
        node: &VmaNode,
        _query: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError> {
        let disks = Self::disks().map_err(|error| SourceError::Garbled {
            url: node.url.clone(),
            detail: error.to_string(),
        })?;
        let vm =
            SeenVm { facts: fixtures::vm_facts("pgtest1", "4205784a"), disks, vmx_version: None };
        Ok(fixtures::inventory(vec![vm]))
    }

    async fn start_copy(&self, _: &VmaNode, _: &CopyOrder) -> Result<CopyStatus, SourceError> {
        Err(no_copies())
    }

    async fn copy_status(&self, _: &VmaNode, _: &str) -> Result<CopyStatus, SourceError> {
        Err(no_copies())
    }

    async fn cancel_copy(&self, _: &VmaNode, _: &str) -> Result<(), SourceError> {
        Err(no_copies())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let store = Arc::new(MemStore::default());
    let mut work = store.begin().await?;
    work.insert_vma_node(&fixtures::vma_node(1, "shelf")).await?;
    work.commit().await?;
    let discovery = Discovery {
        store: store.clone(),
        source: Arc::new(Shelf),
        clock: Arc::new(FixedClock::default()),
        ids: Arc::new(SeqIds::default()),
        options: Options::default(),
    };
    let wanted = Wanted::These { names: vec!["pgtest1".to_owned()], ids: Vec::new() };
    let report = discovery.add_vms(&AddVms { source: SourceChoice::default(), wanted }).await?;
    for result in &report.results {
        let stored = result.outcome.clone()?;
        println!("{}: {}, {} disks", result.vm_name, stored.change.word(), stored.disks);
        for disk in store.view().await?.disks_of(&[stored.id]).await? {
            let job = disk.job.map_or_else(|| "NULL".to_owned(), |job| job.to_string());
            let facts = &disk.facts;
            println!("  disk {} {} {} job_id {job}", disk.ordinal, facts.key, facts.capacity);
        }
    }
    Ok(())
}
