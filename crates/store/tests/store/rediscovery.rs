//! A second discovery of a vCenter in which nothing has changed writes nothing, whatever the database makes of the facts.

use hub_testkit::Whole as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use async_trait::async_trait;
use hub_discovery::{AddVms, Change, Discovery, SourceChoice, Wanted};
use hub_domain::conditions::{DiskConditions, VmConditions, VmNetwork, VmSnapshot};
use hub_domain::inventory::SeenInventory;
use hub_domain::source::SourceAbout;
use hub_ports::{Catalogue, Store, StoreError, UnitOfWork};
use hub_store::SeaStore;
use hub_testkit::database::DatabaseKind;
use hub_testkit::{FakeVma, FixedClock, SeqIds, fixtures};

use crate::databases::opened;

/// A catalogue that counts its units of work: there is no other way to write.
struct Counted {
    store: SeaStore,
    units: AtomicUsize,
}

#[async_trait]
impl Store for Counted {
    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError> {
        self.store.view().await
    }

    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        self.units.fetch_add(1, Ordering::Relaxed);
        self.store.begin().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    fn unreadable(&self) -> usize {
        self.store.unreadable()
    }
}

/// VMs with everything that a vCenter says, in spellings that a column could change.
fn vcenter(vms: usize) -> anyhow::Result<SeenInventory> {
    let mut seen = Vec::new();
    for number in 0..vms {
        let (name, moref) = (format!("Веб /{number}, ✓ \"x\" "), format!("vm-{number}"));
        let mut disks = vec![fixtures::disk("disk-2000", fixtures::SMALL)?];
        disks.push(fixtures::disk("disk-2016", u64::from(u32::MAX) * 4096)?);
        for (place, disk) in disks.iter_mut().enumerate() {
            disk.backing_uuid = Some(format!("6000C29{number:04}-{place}"));
            disk.conditions = DiskConditions {
                device_key: Some(i32::try_from(place)? - 1),
                controller: Some("pvscsi".to_owned()),
                bus_number: Some(1),
                mode: Some("independent_persistent".to_owned()),
                sharing: Some("none".to_owned()),
                used_bytes: Some(i64::MAX.unsigned_abs() - 1),
                rdm: Some("none".to_owned()),
                has_change_id: Some(place == 0),
                format: Some("se_sparse".to_owned()),
                datastore_type: Some("vsan".to_owned()),
                reader: Some("https".to_owned()),
                refusal: Some("its file is not flat".to_owned()),
            };
        }
        let mut vm = fixtures::seen_vm(name.trim(), &moref, disks);
        vm.facts.vcenter_uuid = Some("b9d50f2c-0000-4000-8000-000000000001".to_owned());
        vm.facts.instance_uuid = Some(format!("5015aabb-0000-4000-8000-{number:012}"));
        vm.facts.moref = Some(moref);
        vm.facts.os_type = None;
        vm.facts.conditions = VmConditions {
            hardware_version: Some("vmx-19".to_owned()),
            template: Some(false),
            snapshots: Some(vec![VmSnapshot {
                id: "snapshot-1".to_owned(),
                name: "vor dem Update – ж".to_owned(),
                created: Some("2026-11-23T10:11:12.123456789+02:00".to_owned()),
                parent: None,
                quiesced: Some(true),
            }]),
            tracking_supported: Some(true),
            tracking_enabled: None,
            consolidation_needed: Some(false),
            encrypted: Some(false),
            fault_tolerance: Some("notConfigured".to_owned()),
            connection: Some("disconnected".to_owned()),
            tools: Some("guestToolsRunning".to_owned()),
            quiesced: Some(true),
            reads_snapshots: Some(false),
            refusal: Some("its datacenter is not seen".to_owned()),
            networks: vec![VmNetwork {
                label: "Network adapter 1".to_owned(),
                network_name: "Büro \"Süd\", ж".to_owned(),
                mac_address: "00:50:56:85:bf:a2".to_owned(),
                adapter_type: "vmxnet3".to_owned(),
            }],
        };
        seen.push(vm);
    }
    let mut inventory = fixtures::inventory(seen);
    inventory.vcenter_uuid = Some("b9d50f2c-0000-4000-8000-000000000001".to_owned());
    Ok(inventory)
}

async fn nothing_is_written_where_nothing_has_changed(kind: DatabaseKind) -> anyhow::Result<()> {
    let Some((store, _database)) = opened(kind).await? else { return Ok(()) };
    let store = Arc::new(Counted { store, units: AtomicUsize::new(0) });
    let login = fixtures::credential(5, "login");
    let mut node = fixtures::vma_node(1, "vma1");
    node.source_kind = "vsphere".to_owned();
    let mut work = store.begin().await?;
    work.insert_credential(&login).await?;
    work.insert_vma_node(&node).await?;
    work.commit().await?;
    let mut seen = vcenter(40)?;
    let vma = Arc::new(FakeVma::new(seen.clone()));
    vma.set_about(Ok(SourceAbout::default()));
    let discovery = Discovery {
        store: store.clone(),
        source: vma.clone(),
        clock: Arc::new(FixedClock::ticking()),
        ids: Arc::new(SeqIds::default()),
        options: hub_discovery::Options { chunk: 15, ..Default::default() },
    };
    let source = SourceChoice { vma_node: None, credential: Some(login.id) };
    let all = AddVms { source, wanted: Wanted::All };
    let first = discovery.add_vms(&all).await?;
    ensure!(first.count(Change::Added) == 40, "{first:?}");
    let written = store.units.load(Ordering::Relaxed);
    ensure!(written > 3, "it counts");
    let stored = store.view().await?.vms_page(None, 100).await?.whole()?;
    ensure!(stored.iter().all(|vm| vm.credential == Some(login.id)), "trap D3");

    let again = discovery.add_vms(&all).await?;
    ensure!(again.count(Change::Unchanged) == 40, "{again:?}");
    discovery.discover(&hub_discovery::DiscoverQuery { source, names: Vec::new() }).await?;
    let id = hub_domain::vm::VmAddress::Id(stored[7].id);
    ensure!(discovery.refresh(&id).await?.change == Change::Unchanged);
    ensure!(store.units.load(Ordering::Relaxed) == written, "{kind:?}: something was written");
    ensure!(store.view().await?.vms_page(None, 100).await?.whole()? == stored);

    // A guest that has used more is a change, and of its VM only.
    seen.vms[3].disks[0].conditions.used_bytes = Some(1);
    vma.set_inventory(seen);
    let grown = discovery.add_vms(&all).await?;
    ensure!((grown.count(Change::Updated), grown.count(Change::Unchanged)) == (1, 39));
    ensure!(store.units.load(Ordering::Relaxed) == written + 1);
    Ok(())
}

#[tokio::test]
async fn sqlite_is_not_written_to() -> anyhow::Result<()> {
    nothing_is_written_where_nothing_has_changed(DatabaseKind::Sqlite).await
}

#[tokio::test]
async fn mariadb_is_not_written_to() -> anyhow::Result<()> {
    nothing_is_written_where_nothing_has_changed(DatabaseKind::MariaDb).await
}

#[tokio::test]
async fn postgres_is_not_written_to() -> anyhow::Result<()> {
    nothing_is_written_where_nothing_has_changed(DatabaseKind::Postgres).await
}
