//! What a .vmx means, and that nothing in it can break the parser.

use proptest::prelude::*;

use super::{Bus, Slot, Vmx, VmxError};

const PLAIN: &str = r#"
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "15"
# a comment
displayName = "pgtest1"
guestOS = "ubuntu-64"
numvcpus = "4"
memSize = "8192"
uuid.bios = "42 05 78 4A 11 22 33 44-55 66 77 88 99 AA BB CC"
SCSI0.present = "TRUE"
scsi0:0.present = "TRUE"
SCSI0:0.FileName = "pgtest1.vmdk"
scsi0:1.fileName = "pgtest1_1.vmdk"
scsi0:1.deviceType = "scsi-hardDisk"
scsi0:2.fileName = "gone.vmdk"
scsi0:2.present = "FALSE"
ide1:0.fileName = "tools.iso"
ide1:0.deviceType = "cdrom-image"
ide1:1.fileName = "auto detect"
ide1:1.deviceType = "atapi-cdrom"
sata0:1.fileName = "sata.vmdk"
nvme0:0.fileName = "nvme.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:50:56:85:BF:A2"
ethernet1.present = "FALSE"
ethernet2.present = "TRUE"
ethernet2.connectionType = "nat"
ethernet2.addressType = "static"
ethernet2.address = "00:50:56:00:00:01"
"#;

fn parsed(text: &str) -> Vmx {
    Vmx::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_whole_vm_is_read() {
    let vmx = parsed(PLAIN);
    assert_eq!(vmx.display_name.as_deref(), Some("pgtest1"));
    assert_eq!((vmx.num_cpu, vmx.memory_mb), (4, 8192));
    assert_eq!(vmx.hardware_version.as_deref(), Some("vmx-15"));
    assert_eq!(vmx.uuid.as_deref(), Some("4205784a-1122-3344-5566-778899aabbcc"));
    let disks: Vec<_> =
        vmx.disks.iter().map(|it| (it.slot.disk_id(), it.file_name.as_str())).collect();
    let expected = [
        ("disk-2000", "pgtest1.vmdk"),
        ("disk-2001", "pgtest1_1.vmdk"),
        ("disk-16001", "sata.vmdk"),
        ("disk-32000", "nvme.vmdk"),
    ];
    assert_eq!(disks, expected.map(|(id, file)| (id.to_owned(), file)));
    assert_eq!(vmx.adapters.len(), 2);
    assert_eq!(vmx.adapters[0].mac_address, "00:50:56:85:bf:a2");
    assert_eq!(vmx.adapters[1].network, "nat");
    assert_eq!(vmx.adapters[1].mac_address, "00:50:56:00:00:01");
}

#[test]
fn what_is_absent_has_the_hypervisors_default() {
    let vmx = parsed("config.version = \"8\"\n");
    assert_eq!((vmx.num_cpu, vmx.memory_mb), (1, 32));
    assert_eq!((vmx.display_name, vmx.uuid), (None, None));
}

#[test]
fn escapes_are_resolved_and_broken_ones_kept() {
    let vmx = parsed("displayName = \"a |22quoted|22 |7Cpipe|7c |e2|82|ac |zz |\"\n");
    assert_eq!(vmx.display_name.as_deref(), Some("a \"quoted\" |pipe| € |zz |"));
}

#[test]
fn names_may_be_anything() {
    let long = "x".repeat(200);
    for name in ["a b", "a/b", "a,b", "Größe Тест 試験", long.as_str()] {
        let vmx = parsed(&format!("displayName = \"{name}\"\n"));
        assert_eq!(vmx.display_name.as_deref(), Some(name));
    }
}

#[test]
fn another_encoding_is_decoded_when_it_is_named() {
    let mut bytes = b".encoding = \"windows-1252\"\ndisplayName = \"Gr".to_vec();
    bytes.extend([0xF6, 0xDF]);
    bytes.extend(b"e\"\n");
    assert_eq!(Vmx::parse(&bytes).unwrap().display_name.as_deref(), Some("Größe"));
}

#[test]
fn rubbish_is_named() {
    assert_eq!(Vmx::parse(b"\x7fELF").unwrap_err(), VmxError::Empty);
    assert_eq!(Vmx::parse(&vec![b'a'; (1 << 20) + 1]).unwrap_err(), VmxError::TooLarge);
    let long_line = format!("a = \"{}\"", "x".repeat(20_000));
    assert!(matches!(Vmx::parse(long_line.as_bytes()), Err(VmxError::Excessive(_))));
    let cpus = Vmx::parse(b"numvcpus = \"-1\"");
    assert_eq!(cpus.unwrap_err(), VmxError::BadNumber { key: "numvcpus".into() });
    let slot = Vmx::parse(b"scsi9:0.fileName = \"a.vmdk\"");
    assert_eq!(slot.unwrap_err(), VmxError::BadSlot("scsi9:0".into()));
}

#[test]
fn a_uuid_of_zeroes_or_rubbish_is_none() {
    for uuid in ["00 00 00 00 00 00 00 00-00 00 00 00 00 00 00 00", "56 4d", "zz"] {
        assert_eq!(parsed(&format!("uuid.bios = \"{uuid}\"\n")).uuid, None);
    }
    let second = "uuid.bios = \"x\"\nvc.uuid = \"564d0102030405060708090a0b0c0d0e\"\n";
    assert_eq!(parsed(second).uuid.as_deref(), Some("564d0102-0304-0506-0708-090a0b0c0d0e"));
}

#[test]
fn every_place_has_a_key_of_its_own_trap_c5() {
    let mut keys = std::collections::HashSet::new();
    for bus in Bus::ALL {
        for slot in (0..100).flat_map(|c| (0..100).filter_map(move |u| Slot::new(bus, c, u))) {
            assert!(keys.insert(slot.key()), "{slot} shares its key");
        }
    }
    assert_eq!(Slot::new(Bus::Scsi, 1, 0).map(Slot::key), Some(2016));
    assert_eq!(Slot::new(Bus::Ide, 1, 1).map(Slot::key), Some(3003));
    assert_eq!(Slot::new(Bus::Sata, 0, 0).map(Slot::key), Some(16_000));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Vmx::parse(&bytes);
    }

    #[test]
    fn no_lines_make_it_panic(lines in proptest::collection::vec(
        "(scsi|sata|ide|nvme|ethernet)[0-9]{0,3}:?[0-9]{0,3}\\.(fileName|present|deviceType) ?= ?\"?[^\n]{0,20}\"?", 0..30)) {
        let _ = Vmx::parse(lines.join("\n").as_bytes());
    }

    #[test]
    fn a_name_survives_escaping(name in "[^\\p{C}\\s][^\\p{C}]{0,50}[^\\p{C}\\s]") {
        let escaped: String = name.chars().map(|it| match it {
            '"' => "|22".to_owned(),
            '|' => "|7C".to_owned(),
            other => other.to_string(),
        }).collect();
        let vmx = parsed(&format!("displayName = \"{escaped}\"\n"));
        prop_assert_eq!(vmx.display_name, Some(name));
    }
}
