//! Which layer is read, and what is refused before anything is read.

use std::path::Path;

use anyhow::Result;

use crate::fixture::{DISK, Fixture, asking, cowd};
use crate::source::{OpenRequest, Source, SourceError};

/// Puts a hand-made delta on a flat disk of the VM, and makes the VM use it.
fn snapshot(home: &Path, disk: &str) -> Result<()> {
    let (delta, extent) = (format!("{disk}-000001.vmdk"), format!("{disk}-000001-delta.vmdk"));
    let text = format!(
        "# Disk DescriptorFile\nversion=3\nCID=87654321\nparentCID=12345678\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"{disk}.vmdk\"\n# Extent description\nRW {} VMFSSPARSE \"{extent}\"\n",
        DISK / 512
    );
    std::fs::write(home.join(&delta), text)?;
    std::fs::write(home.join(extent), cowd(0x77))?;
    let vmx = std::fs::read_to_string(home.join("vm.vmx"))?;
    std::fs::write(home.join("vm.vmx"), vmx.replace(&format!("{disk}.vmdk"), &delta))?;
    Ok(())
}

async fn vm_id(fixture: &Fixture) -> Result<String> {
    let inventory = fixture.source()?.inventory(&Default::default()).await?;
    Ok(inventory.vms.first().map(|it| it.id.clone()).unwrap_or_default())
}

async fn names_read(fixture: &Fixture, request: &OpenRequest) -> Result<Vec<String>, SourceError> {
    let source = fixture.source().map_err(|it| SourceError::Internal(it.to_string()))?;
    let planned = source.plan(request).await?;
    let top = |it: &super::super::plan::PlannedDisk| it.chain.top().map(|it| it.name.clone());
    Ok(planned.iter().filter_map(top).collect())
}

#[tokio::test]
async fn a_vm_that_is_off_is_read_at_its_top() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.flat_vm("vm", "vm", &[1, 2]).unwrap();
    snapshot(&home, "disk1").unwrap();
    let id = vm_id(&fixture).await.unwrap();
    let read = names_read(&fixture, &asking(&id, &["disk-2001", "disk-2000"])).await.unwrap();
    assert_eq!(read, ["disk1-000001.vmdk", "disk0.vmdk"]);
}

#[tokio::test]
async fn a_running_vm_is_read_at_its_newest_snapshot_or_refused() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.flat_vm("vm", "my vm", &[1, 2]).unwrap();
    snapshot(&home, "disk1").unwrap();
    std::fs::create_dir(home.join("vm.vmx.lck")).unwrap();
    let id = vm_id(&fixture).await.unwrap();
    let read = names_read(&fixture, &asking(&id, &["disk-2001"])).await.unwrap();
    assert_eq!(read, ["disk1.vmdk"]);

    let refused = names_read(&fixture, &asking(&id, &["disk-2001", "disk-2000"])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "source/vm-running-without-snapshot");
    assert!(refused.to_string().contains("take a snapshot"), "{refused}");
}

#[tokio::test]
async fn what_is_not_there_is_named_traps_c33_and_d7() {
    let fixture = Fixture::new().unwrap();
    fixture.flat_vm("vm", "vm", &[1]).unwrap();
    let id = vm_id(&fixture).await.unwrap();
    let code = async |request: OpenRequest| {
        names_read(&fixture, &request).await.map_err(|it| it.code()).unwrap_err()
    };
    assert_eq!(code(asking("nobody", &["disk-2000"])).await, "source/vm-not-found");
    assert_eq!(code(asking(&id, &["disk-2001"])).await, "source/disk-not-found");
    let mut other_size = asking(&id, &["disk-2000"]);
    other_size.disks[0].capacity_bytes += 512;
    assert_eq!(code(other_size).await, "source/capacity-mismatch");
}

#[tokio::test]
async fn a_broken_chain_is_refused_before_anything_starts() {
    let fixture = Fixture::new().unwrap();
    let home = fixture.flat_vm("vm", "vm", &[1]).unwrap();
    snapshot(&home, "disk0").unwrap();
    let id = vm_id(&fixture).await.unwrap();
    let base = std::fs::read_to_string(home.join("disk0.vmdk")).unwrap();
    std::fs::write(home.join("disk0.vmdk"), base.replace("CID=12345678", "CID=0badcafe")).unwrap();
    let stale = names_read(&fixture, &asking(&id, &["disk-2000"])).await.unwrap_err();
    assert_eq!(stale.code(), "source/disk-unreadable");
    assert!(stale.to_string().contains("changed after the snapshot"), "{stale}");
    std::fs::remove_file(home.join("disk0.vmdk")).unwrap();
    let missing = names_read(&fixture, &asking(&id, &["disk-2000"])).await.unwrap_err();
    assert!(missing.to_string().contains("`disk0.vmdk` does not exist"), "{missing}");
}
