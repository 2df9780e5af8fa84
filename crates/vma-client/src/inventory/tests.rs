//! What of an odd inventory is believed, and what is rejected by name.

use serde_json::json;

use super::*;

fn disk(id: &str, capacity: u64) -> Value {
    json!({"id": id, "label": "Hard disk 1", "path": "[ds1] a/a.vmdk", "size_gb": 1,
           "capacity_bytes": capacity, "datastore": "ds1", "provisioning_type": "thin", "unit_number": 0})
}

fn vm(name: &str, id: &str, disks: Vec<Value>) -> Value {
    json!({"id": id, "name": name, "path": format!("/DC1/vm/{name}"), "power_state": "poweredOn",
           "guest_os": "ubuntu64Guest", "num_cpu": 4, "memory_mb": 8192, "vmx_version": "vmx-15",
           "disks": disks,
           "networks": [{"label": "Network adapter 1", "network_name": "VM Network",
                         "mac_address": "00:50:56:85:bf:a2", "adapter_type": "vmxnet3"}]})
}

fn read(vms: Vec<Value>) -> SeenInventory {
    let answer = json!({"vcenter": {"host": "vc.example.local", "datacenter": "DC1"}, "vms": vms});
    inventory_from_wire(answer.to_string().as_bytes()).unwrap()
}

/// Reads one odd VM beside a good one; the good one must live, and the odd one be rejected with a reason.
fn reason(odd: Value) -> String {
    let seen = read(vec![odd, vm("good", "42-good", vec![disk("disk-2000", 512)])]);
    let names: Vec<&str> = seen.vms.iter().map(|vm| vm.facts.name.as_str()).collect();
    assert_eq!(names, ["good"], "{:?}", seen.rejected);
    assert_eq!(seen.rejected.len(), 1);
    seen.rejected[0].detail.clone()
}

#[test]
fn the_contract_s_own_example_is_read() {
    let seen = read(vec![vm(
        "pgtest1",
        "4205784a",
        vec![disk("disk-2000", 109_521_666_048), disk("disk-2001", 5_368_709_120)],
    )]);
    assert_eq!(seen.vcenter_host, "vc.example.local");
    assert!(seen.rejected.is_empty());
    let vm = &seen.vms[0];
    assert_eq!(vm.facts.cpu_count, Some(4));
    assert_eq!(vm.facts.memory_mb, Some(8192));
    assert_eq!(vm.facts.os_type.as_deref(), Some("ubuntu64Guest"));
    assert_eq!(vm.facts.conditions.networks[0].mac_address, "00:50:56:85:bf:a2");
    let sizes: Vec<u64> = vm.disks.iter().map(|disk| disk.capacity.bytes()).collect();
    assert_eq!(sizes, [109_521_666_048, 5_368_709_120]);
}

#[test]
fn unknown_fields_are_ignored_and_optional_ones_may_be_absent_or_null() {
    let seen = read(vec![json!({"id": "1", "name": "bare", "future": {"x": 1}, "path": null,
        "disks": [{"id": "disk-2000", "capacity_bytes": 512, "label": null, "datastore": null}]})]);
    assert!(seen.rejected.is_empty(), "{:?}", seen.rejected);
    assert_eq!(seen.vms[0].facts.cpu_count, None);
    assert_eq!(seen.vms[0].disks[0].label, "");
}

#[test]
fn trap_d2_a_vm_with_a_disk_of_no_size_is_rejected_and_the_others_live() {
    assert!(reason(vm("odd", "1", vec![disk("disk-2000", 0)])).contains("the capacity is 0"));
    assert!(reason(vm("odd", "1", vec![disk("disk-2000", 513)])).contains("multiple of 512"));
    assert!(reason(vm("odd", "1", vec![disk("disk-2000", u64::MAX)])).contains("1 PiB"));
}

#[test]
fn trap_d7_and_d11_a_disk_id_twice_is_rejected() {
    let twice = vec![disk("disk-2000", 512), disk(" disk-2000 ", 1024)];
    assert!(reason(vm("odd", "1", twice)).contains("two of its disks have the id disk-2000"));
    assert!(reason(vm("odd", "1", vec![disk("  ", 512)])).contains("disk id is empty"));
}

#[test]
fn texts_that_no_database_stores_are_rejected() {
    assert!(reason(vm(&"x".repeat(256), "1", vec![])).contains("256 characters"));
    assert!(reason(vm("a\0b", "1", vec![])).contains("NUL"));
    assert!(reason(vm("odd", &"i".repeat(192), vec![])).contains("192 characters"));
    assert!(reason(vm("  ", "1", vec![])).contains("name is empty"));
}

#[test]
fn fields_of_the_wrong_type_reject_only_their_vm() {
    assert!(reason(json!({"id": "1", "name": 7})).contains("not described"));
    assert!(reason(json!("rubbish")).contains("not described"));
    let mut text = vm("odd", "1", vec![disk("disk-2000", 512)]);
    text["disks"][0]["capacity_bytes"] = json!("big");
    assert!(reason(text).contains("not described"));
    let mut negative = vm("odd", "1", vec![disk("disk-2000", 512)]);
    negative["disks"][0]["capacity_bytes"] = json!(-512);
    assert!(reason(negative).contains("not described"));
}

#[test]
fn counts_out_of_range_are_as_good_as_unknown() {
    let mut odd = vm("odd", "1", vec![disk("disk-2000", 512)]);
    odd["num_cpu"] = json!(-1);
    odd["memory_mb"] = json!(1.5e30);
    let mut large = vm("large", "2", vec![]);
    large["num_cpu"] = json!(4_000_000_000_u64);
    large["memory_mb"] = json!(u64::MAX);
    let mut zero = vm("zero", "3", vec![]);
    zero["num_cpu"] = json!(0);
    for (name, value) in [("odd", odd), ("large", large), ("zero", zero)] {
        let seen = read(vec![value]);
        assert!(seen.rejected.is_empty(), "{name}: {:?}", seen.rejected);
        assert_eq!(seen.vms[0].facts.cpu_count, None, "{name}");
    }
}

#[test]
fn trap_c19_names_may_be_shared_and_ids_may_not() {
    let seen = read(vec![vm("web", "1", vec![]), vm("web", "2", vec![])]);
    assert_eq!(seen.vms.len(), 2);
    let seen = read(vec![vm("a", "1", vec![]), vm("b", "1", vec![]), vm("c", "3", vec![])]);
    assert_eq!(seen.vms.len(), 1);
    assert_eq!(seen.rejected.len(), 2);
    assert!(seen.rejected[0].detail.contains("shares its id 1"));
}

#[test]
fn odd_names_are_names() {
    for name in ["web server 1", "a/b", "a,b:c", "Сервер–1", &"ж".repeat(200)] {
        assert_eq!(read(vec![vm(name, "1", vec![])]).vms[0].facts.name, name);
    }
}

#[test]
fn warnings_of_the_source_are_rejections() {
    let answer = json!({"vcenter": {"host": "h"}, "vms": [],
        "warnings": [{"subject": "ds1/broken.vmx", "detail": "not a VM"}]});
    let seen = inventory_from_wire(answer.to_string().as_bytes()).unwrap();
    assert_eq!(seen.rejected[0].subject, "ds1/broken.vmx");
}

#[test]
fn an_inventory_of_nobody_is_garbled() {
    for bad in ["", "{", "[]", "{\"vms\":[]}", "{\"vcenter\":{\"host\":\" \"},\"vms\":[]}"] {
        assert!(inventory_from_wire(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_narrow_query_names_what_it_wants() {
    let query = InventoryQuery { names: vec!["a".to_owned()], ..InventoryQuery::default() };
    let wire = query_to_wire(&query);
    assert_eq!(wire.filter.map(|filter| filter.names), Some(vec!["a".to_owned()]));
    assert_eq!(query_to_wire(&InventoryQuery::default()).filter, None);
}

#[test]
fn hub_and_vma_agree_on_which_snapshots_are_of_jobs() {
    let job = hub_vma_api::JOB_SNAPSHOT;
    let names = ["", "nightly", job.trim_end(), job, "Sendense-hub job 1"].map(str::to_owned);
    let ids = ["1", "a/b", "a b", "0199-A_2.x", &"x".repeat(60), &"x".repeat(61)];
    let of_jobs = ids.map(|id| format!("{job}{id}"));
    let mut found = 0;
    for name in names.into_iter().chain(of_jobs) {
        let mut odd = vm("a", "1", vec![]);
        odd["snapshots"] = json!([{"id": "snapshot-1", "name": name}]);
        let seen = read(vec![odd]).vms.remove(0).facts.conditions.snapshots.unwrap();
        assert_eq!(seen[0].is_of_a_job(), hub_vma_api::is_name_of_a_job(&name), "{name}");
        found += usize::from(seen[0].is_of_a_job());
    }
    assert_eq!(found, 3);
}
