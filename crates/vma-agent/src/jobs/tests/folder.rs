//! The whole way: VMDKs in a folder, reader processes, NBD, and images that hold the same bytes.

use anyhow::Result;
use hub_vma_api::{CopyDisk, CopyMethod, CopyState};

use super::jobs;
use crate::doubles::{Hub, copying, ended, full_disk, memory, table_of};
use crate::fixture::{Fixture, content, cowd, has_qemu, qemu};

const UUID: &str = "564d0102-0304-0506-0708-090a0b0c0d0e";

fn fixture() -> Result<Fixture> {
    let fixture = Fixture::new()?;
    let home = fixture.flat_vm("pg test,1", "pg test/1", &[1, 2])?;
    let vmx = std::fs::read_to_string(home.join("vm.vmx"))?;
    std::fs::write(home.join("vm.vmx"), format!("{vmx}uuid.bios = \"{UUID}\"\n"))?;
    Ok(fixture)
}

#[tokio::test]
async fn a_full_copy_and_then_what_a_snapshot_changed() {
    if !has_qemu().unwrap() {
        return;
    }
    let fixture = fixture().unwrap();
    let mut hub = Hub::start().await.unwrap();
    let size = content(1).len();
    let images = [memory(vec![0; size]), memory(vec![0; size])];
    let disks = vec![
        full_disk("disk-2000", size, hub.offer("a", images[0].clone()).unwrap()),
        full_disk("disk-2001", size, hub.offer("b", images[1].clone()).unwrap()),
    ];
    let jobs = jobs(fixture.source().unwrap());
    let mut request = copying("full", disks);
    request.vm_id = UUID.to_owned();
    jobs.start(request.clone()).await.unwrap();
    let full = ended(&jobs, "full").await.unwrap();
    assert_eq!(full.state, CopyState::Succeeded, "{full:?}");
    assert!(images[0].snapshot() == content(1) && images[1].snapshot() == content(2));

    let home = fixture.path("pg test,1");
    let create =
        ["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", "disk0.vmdk", "disk0-000001.vmdk"];
    qemu("qemu-img", &home, &create).unwrap();
    qemu("qemu-io", &home, &["-f", "vmdk", "-c", "write -P 0x77 2M 64k", "disk0-000001.vmdk"])
        .unwrap();
    let vmx = std::fs::read_to_string(home.join("vm.vmx")).unwrap();
    std::fs::write(home.join("vm.vmx"), vmx.replace("disk0.vmdk", "disk0-000001.vmdk")).unwrap();

    let change_id = full.disks[0].change_id.clone().unwrap();
    let parent = hub.parent(&content(1)).await.unwrap();
    assert_eq!(full.disks[0].source_root.as_deref(), Some(parent.root.as_str()));
    request.job_id = "incremental".to_owned();
    request.disks = vec![CopyDisk {
        method: CopyMethod::ChangedSince { change_id },
        parent: Some(parent),
        ..request.disks.swap_remove(0)
    }];
    jobs.start(request).await.unwrap();
    let next = ended(&jobs, "incremental").await.unwrap();
    let disk = &next.disks[0];
    assert_eq!(
        (disk.state, disk.method.as_str()),
        (CopyState::Succeeded, "changed_since"),
        "{disk:?}"
    );
    assert_eq!((disk.bytes_read, disk.bytes_sent), (65_536, 65_536));
    let mut expected = content(1);
    expected[2 << 20..(2 << 20) + 65_536].fill(0x77);
    assert!(images[0].snapshot() == expected);
    let root = table_of(&expected).await.unwrap().root().unwrap().to_string();
    assert_eq!(disk.source_root.as_deref(), Some(root.as_str()));
}

#[tokio::test]
async fn a_disk_that_is_not_read_is_refused_at_once_and_a_damaged_one_when_it_is_met() {
    let fixture = fixture().unwrap();
    let home = fixture.path("pg test,1");
    let flat = std::fs::read_to_string(home.join("disk0.vmdk")).unwrap();
    std::fs::write(home.join("disk0.vmdk"), flat.replace("\"vmfs\"", "\"custom\"")).unwrap();
    let mut hub = Hub::start().await.unwrap();
    let size = content(1).len();
    let target = hub.offer("a", memory(vec![0; size])).unwrap();
    let jobs = jobs(fixture.source().unwrap());
    let mut request = copying("job", vec![full_disk("disk-2000", size, target)]);
    request.vm_id = UUID.to_owned();
    let refused = jobs.start(request.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("`custom` is not supported"), "{refused}");

    // A grain that lies beyond the end of its file.
    let delta = flat.replace("vmfs\"", "vmfsSparse\"").replace(" VMFS ", " VMFSSPARSE ");
    std::fs::write(home.join("disk0.vmdk"), delta).unwrap();
    let extent = cowd(1);
    std::fs::write(home.join("disk0-flat.vmdk"), &extent[..extent.len() - 1]).unwrap();
    jobs.start(request).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Failed);
    let error = report.disks[0].error.as_ref().unwrap();
    assert_eq!(error.code, "source/read-failed");
    assert!(error.detail.contains("`disk0-flat.vmdk`: it lies beyond the end"), "{}", error.detail);
}
