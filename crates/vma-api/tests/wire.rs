//! The wire contract, held still: what the mission prints must parse, and secrets must not print.

use hub_vma_api::{
    CopyDisk, CopyMethod, CopyRequest, Credentials, DiscoverRequest, Identity, Inventory,
    NbdTarget, NbdTls,
};

const ANSWER: &str = r#"{"vcenter":{"host":"vc.example.local","datacenter":"DC1"},
 "vms":[{"id":"4205784a-0000","name":"pgtest1","path":"/DC1/vm/pgtest1","power_state":"poweredOn","guest_os":"ubuntu64Guest",
   "num_cpu":4,"memory_mb":8192,"vmx_version":"vmx-15","something_new":{"a":1},
   "disks":[{"id":"disk-2000","label":"Hard disk 1","path":"[datastore1] pgtest1/pgtest1.vmdk","size_gb":102,"capacity_bytes":109521666048,
             "datastore":"datastore1","provisioning_type":"thin","unit_number":0}],
   "networks":[{"label":"Network adapter 1","network_name":"VM Network","mac_address":"00:50:56:85:bf:a2","adapter_type":"vmxnet3"}]}]}"#;

#[test]
fn the_answer_of_the_contract_parses_and_unknown_fields_are_ignored() {
    let inventory: Inventory = serde_json::from_str(ANSWER).unwrap();
    assert_eq!(inventory.vms[0].disks[0].capacity_bytes, 109_521_666_048);
    assert!(inventory.warnings.is_empty());
}

#[test]
fn absent_optional_fields_are_tolerated() {
    let bare = r#"{"vcenter":{"host":"h"},"vms":[{"id":"1","name":"a","disks":[{"id":"disk-0","capacity_bytes":512}]}]}"#;
    let inventory: Inventory = serde_json::from_str(bare).unwrap();
    assert_eq!(inventory.vms[0].num_cpu, None);
}

#[test]
fn discovery_credentials_lie_flat_beside_the_filter() {
    let body = r#"{"vcenter":"vc","username":"u","password":"p","datacenter":"DC1","filter":{"names":["a"]}}"#;
    let request: DiscoverRequest = serde_json::from_str(body).unwrap();
    assert_eq!(request.credentials.unwrap().username, "u");
    assert_eq!(request.filter.unwrap().names, ["a"]);
    let empty: DiscoverRequest = serde_json::from_str("{}").unwrap();
    assert_eq!(empty.credentials, None);
}

#[test]
fn a_password_is_not_printed() {
    let secret = Credentials {
        vcenter: "vc".to_owned(),
        username: "u".to_owned(),
        password: "hunter2".to_owned(),
    };
    assert!(!format!("{secret:?}").contains("hunter2"));
}

/// Trap C12: whoever knows the name of an export can write to it.
#[test]
fn trap_c12_the_name_of_an_export_is_not_printed() {
    let tls = Some(NbdTls { server_name: "hub.internal".to_owned(), authority: "ab".repeat(32) });
    for tls in [None, tls] {
        let target =
            NbdTarget { host: "hub".to_owned(), port: 10809, export: "hunter2".to_owned(), tls };
        let printed = format!("{target:?}");
        assert!(printed.contains("hub") && !printed.contains("hunter2"), "{printed}");
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<NbdTarget>(&json).unwrap(), target);
    }
}

#[test]
fn what_came_later_may_be_absent() {
    let target: NbdTarget = serde_json::from_str(r#"{"host":"h","port":1,"export":"e"}"#).unwrap();
    assert_eq!(target.tls, None);
    let identity =
        r#"{"name":"n","version":"1","api_version":1,"source_kind":"folder","proof":""}"#;
    assert_eq!(serde_json::from_str::<Identity>(identity).unwrap().challenge, None);
}

#[test]
fn what_a_hypervisor_adds_parses_and_words_of_tomorrow_hide_no_vm() {
    let rich = r#"{"vcenter":{"host":"h","instance_uuid":"vc-1"},"vms":[{"id":"1","name":"a","moref":"vm-57",
      "instance_uuid":"5015-1","template":false,"consolidation_needed":true,"encrypted":false,"fault_tolerance":"a new word",
      "change_tracking":{"supported":true},"snapshots":[{"id":"snapshot-1","name":"s"},{"id":"snapshot-2","parent":"snapshot-1"}],
      "disks":[{"id":"disk-2000","capacity_bytes":512,"device_key":2000,"controller":"quantum","bus_number":1,
        "backing_uuid":"6000C29","mode":"a new mode","sharing":"none","used_bytes":1,"rdm":"none","has_change_id":true}]}]}"#;
    let inventory: Inventory = serde_json::from_str(rich).unwrap();
    let vm = &inventory.vms[0];
    assert_eq!(inventory.vcenter.instance_uuid.as_deref(), Some("vc-1"));
    assert_eq!(vm.change_tracking.unwrap().enabled, None);
    assert_eq!(vm.snapshots.as_ref().unwrap()[1].parent.as_deref(), Some("snapshot-1"));
    assert_eq!(vm.disks[0].mode.as_deref(), Some("a new mode"));
    let again = serde_json::to_string(&inventory).unwrap();
    assert_eq!(serde_json::from_str::<Inventory>(&again).unwrap(), inventory);
}

#[test]
fn what_is_not_said_is_not_denied() {
    let bare = r#"{"vcenter":{"host":"h"},"vms":[{"id":"1","name":"a","disks":[{"id":"disk-0","capacity_bytes":512}]}]}"#;
    let inventory: Inventory = serde_json::from_str(bare).unwrap();
    assert_eq!((inventory.vms[0].snapshots.as_ref(), inventory.vms[0].template), (None, None));
    let said = serde_json::to_string(&inventory).unwrap();
    for word in ["snapshots", "template", "backing_uuid", "instance_uuid"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn methods_are_tagged_by_their_kind() {
    let method = CopyMethod::ChangedSince { change_id: "x".to_owned() };
    let json = serde_json::to_string(&method).unwrap();
    assert_eq!(json, r#"{"kind":"changed_since","change_id":"x"}"#);
    assert_eq!(method.name(), "changed_since");
}

#[test]
fn an_order_of_an_older_hub_names_no_vcenter_and_looks_as_it_did() {
    let old = r#"{"job_id":"job-1","vm_id":"4204ab","disks":[]}"#;
    let request: CopyRequest = serde_json::from_str(old).unwrap();
    assert_eq!(request.vcenter_uuid, None);
    // A VMA that was sent this order by an older hub takes it for the same one.
    assert_eq!(serde_json::to_string(&request).unwrap(), old);
    let named = CopyRequest { vcenter_uuid: Some("vc-1".to_owned()), ..request };
    let told = serde_json::to_value(&named).unwrap();
    assert_eq!(told["vcenter_uuid"], "vc-1");
}

#[test]
fn an_order_of_an_older_hub_names_no_backing_and_a_vma_from_before_reads_one_that_does() {
    let old = r#"{"key":"disk-2000","capacity_bytes":512,"target":{"host":"h","port":1,"export":"e"},"method":{"kind":"full"},"block_size":65536}"#;
    let disk: CopyDisk = serde_json::from_str(old).unwrap();
    assert_eq!(disk.backing_uuid, None);
    assert_eq!(serde_json::to_string(&disk).unwrap(), old);
    let named = CopyDisk { backing_uuid: Some("6000c29".to_owned()), ..disk };
    let told = serde_json::to_value(&named).unwrap();
    assert_eq!(told["backing_uuid"], "6000c29");
    // What a peer does not know, it passes over.
    let newer = r#","not_known_yet":1}"#;
    assert!(serde_json::from_str::<CopyDisk>(&format!("{}{newer}", &old[..old.len() - 1])).is_ok());
}

#[test]
fn an_order_of_an_older_hub_audits_no_chain_and_looks_as_it_did() {
    let old = r#"{"key":"disk-2000","capacity_bytes":512,"target":{"host":"h","port":1,"export":"e"},"method":{"kind":"full"},"block_size":65536}"#;
    let disk: CopyDisk = serde_json::from_str(old).unwrap();
    assert_eq!(disk.chain_audit, None);
    // A VMA that was sent this order by an older hub takes it for the same one.
    assert_eq!(serde_json::to_string(&disk).unwrap(), old);
    let digests = r#"{"target":{"host":"h","port":1,"export":"d"},"block_size":65536,"capacity_bytes":512,"root":"ab"}"#;
    let asked = format!(
        r#"{},"chain_audit":{{"change_id":"m","point":{digests},"from":7}}}}"#,
        &old[..old.len() - 1]
    );
    let disk: CopyDisk = serde_json::from_str(&asked).unwrap();
    assert_eq!(serde_json::to_string(&disk).unwrap(), asked);
    assert_eq!(disk.chain_audit.map(|it| (it.change_id, it.from)), Some(("m".to_owned(), 7)));
}
