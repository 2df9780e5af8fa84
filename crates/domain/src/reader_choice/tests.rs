//! Spellings of one source, and who reads a VM when its own VMA does not.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::{CredentialId, VmContextId, VmaNodeId};
use crate::limits::VmaLimits;
use crate::time::Timestamp;
use crate::vm::{ContextStatus, VmFacts};

fn id(number: u128) -> VmaNodeId {
    VmaNodeId::from_uuid(Uuid::from_u128(number))
}

fn source(host: Option<&str>, uuid: Option<&str>) -> SourceName {
    SourceName { host: host.map(ToOwned::to_owned), uuid: uuid.map(ToOwned::to_owned) }
}

fn node(number: u128, kind: &str, source: SourceName) -> VmaNode {
    VmaNode {
        id: id(number),
        name: format!("vma-{number}"),
        url: String::new(),
        token: "token".to_owned().into(),
        source_kind: kind.to_owned(),
        source,
        limits: VmaLimits::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn vm(own: Option<u128>) -> VmContext {
    VmContext {
        id: VmContextId::from_uuid(Uuid::from_u128(1)),
        facts: VmFacts {
            vcenter_host: "vc.example.com".to_owned(),
            vcenter_uuid: Some("uuid-1".to_owned()),
            ..VmFacts::default()
        },
        facts_at: None,
        status: ContextStatus::Discovered,
        credential: None,
        vma_node: own.map(id),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn one_source_has_many_spellings_and_ids_tell_better() {
    let here = source(Some("vc.example.com"), None);
    for same in
        ["VC.example.com", "https://vc.example.com/sdk", "vc.example.com:443", " vc.example.com "]
    {
        assert_eq!(here.is(&source(Some(same), None)), Some(true), "{same}");
    }
    for other in ["vc.example.com:8443", "vc2.example.com", "example.com"] {
        assert_eq!(here.is(&source(Some(other), None)), Some(false), "{other}");
    }
    let one = source(Some("a"), Some("UUID-1"));
    assert_eq!(one.is(&source(Some("b"), Some("uuid-1"))), Some(true));
    assert_eq!(one.is(&source(Some("a"), Some("uuid-2"))), Some(false));
    assert_eq!(one.is(&source(None, None)), None);
    assert_eq!(source(None, Some("uuid-1")).is(&source(Some("a"), None)), None);
}

#[test]
fn a_name_may_be_an_id_or_an_address() {
    let both = source(Some("vc"), Some("uuid-1"));
    assert_eq!(
        ["UUID-1", "https://vc", "uuid-2"].map(|it| both.is_called(it)),
        [Some(true), Some(true), Some(false)]
    );
    let host = source(Some("vc"), None);
    assert_eq!(["uuid-1", "vc"].map(|it| host.is_called(it)), [None, Some(true)]);
}

#[test]
fn an_id_is_kept_under_one_address_only() {
    let known = source(Some("vc"), Some("uuid-1"));
    assert_eq!(known.clone().at(None), known);
    assert_eq!(known.clone().at(Some("VC:443".to_owned())).uuid, known.uuid);
    assert_eq!(known.at(Some("vc2".to_owned())), source(Some("vc2"), None));
    assert_eq!(source(None, None).at(Some("vc".to_owned())), source(Some("vc"), None));
}

#[test]
fn the_own_vma_is_chosen_unless_it_reads_something_else() {
    let there = source(Some("vc.example.com"), Some("uuid-1"));
    let nodes = [node(1, "vsphere", there.clone()), node(2, "vsphere", there.clone())];
    assert_eq!(choose_reader(&vm(Some(2)), &nodes).unwrap().id, id(2));
    // Nothing is known of it, as of one that was registered by an older hub.
    let nodes = [node(1, "vsphere", there.clone()), node(2, "vsphere", SourceName::default())];
    assert_eq!(choose_reader(&vm(Some(2)), &nodes).unwrap().id, id(2));
    let other = source(Some("vc2.example.com"), None);
    let nodes = [node(1, "vsphere", there.clone()), node(2, "vsphere", other.clone())];
    assert_eq!(choose_reader(&vm(Some(2)), &nodes).unwrap().id, id(1));
    let nodes = [node(2, "vsphere", other)];
    let error = choose_reader(&vm(Some(2)), &nodes).unwrap_err();
    assert!(error.to_string().contains("VMA vma-2 reads vc2.example.com"), "{error}");
    // A folder says nothing of vCenters, whatever host its VMs are listed under.
    let nodes = [node(2, "folder", source(Some("elsewhere"), None))];
    assert_eq!(choose_reader(&vm(Some(2)), &nodes).unwrap().id, id(2));
}

#[test]
fn a_vm_without_a_vma_gets_one_that_reads_its_source_or_the_only_one() {
    let there = source(Some("another-name"), Some("uuid-1"));
    let nodes = [
        node(3, "folder", SourceName::default()),
        node(2, "vsphere", there.clone()),
        node(1, "vsphere", there),
    ];
    assert_eq!(choose_reader(&vm(None), &nodes).unwrap().id, id(1), "the first by name");
    let only = [node(1, "vsphere", SourceName::default())];
    assert_eq!(choose_reader(&vm(None), &only).unwrap().id, id(1));
    let unknown =
        [node(1, "vsphere", SourceName::default()), node(2, "folder", SourceName::default())];
    let error = choose_reader(&vm(None), &unknown).unwrap_err();
    assert!(error.to_string().contains("no registered VMA reads vc.example.com"), "{error}");
    assert!(choose_reader(&vm(None), &[]).is_err());
    let elsewhere = [node(1, "vsphere", source(None, Some("uuid-2")))];
    assert!(choose_reader(&vm(None), &elsewhere).is_err());
}

/// The ids in the order in which they are asked, when nobody answers.
fn asked(readers: &Readers<'_>) -> Vec<VmaNodeId> {
    let mut silent = Vec::new();
    while let Some(node) = readers.next(&silent) {
        silent.push(node.id);
    }
    silent
}

#[test]
fn only_what_is_known_to_read_the_same_source_stands_in() {
    let there = source(Some("vc.example.com"), Some("uuid-1"));
    let nodes = [
        node(1, "vsphere", there.clone()),
        node(9, "vsphere", source(Some("VC.example.com"), None)),
        node(4, "vsphere", there.clone()),
        node(3, "vsphere", SourceName::default()),
        node(5, "folder", there.clone()),
        node(6, "vsphere", source(Some("vc.example.com"), Some("uuid-2"))),
    ];
    let chosen = readers(&vm(Some(1)), None, &nodes, None).unwrap();
    assert!(chosen.is_choice());
    assert_eq!(asked(&chosen), [id(1), id(4), id(9)], "the own one, then by name");
    let alone = readers(&vm(Some(1)), None, &nodes[..1], None).unwrap();
    assert!(!alone.is_choice());
    // Another folder has other files under the same names.
    let folders = [node(1, "folder", there.clone()), node(2, "vsphere", there)];
    assert!(!readers(&vm(Some(1)), None, &folders, None).unwrap().is_choice());
}

#[test]
fn a_stand_in_says_why() {
    let there = source(Some("vc.example.com"), None);
    let nodes = [node(1, "vsphere", there.clone()), node(2, "vsphere", there)];
    assert_eq!(stand_in(&vm(Some(1)), &nodes, &nodes[0], Some("refused")), None);
    assert_eq!(stand_in(&vm(None), &nodes, &nodes[0], None), None);
    let silent = stand_in(&vm(Some(1)), &nodes, &nodes[1], Some("connection refused")).unwrap();
    assert!(silent.contains("vma-1 does not answer (connection refused); VMA vma-2"), "{silent}");
    let gone = stand_in(&vm(Some(7)), &nodes, &nodes[1], None).unwrap();
    assert!(gone.contains("not registered any more"), "{gone}");
}

fn login(host: &str) -> Credential {
    Credential {
        id: CredentialId::from_uuid(Uuid::from_u128(1)),
        name: "login".to_owned(),
        vcenter_host: host.to_owned(),
        username: "backup".to_owned(),
        password: "secret".to_owned().into(),
        datacenter: None,
        copies: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_login_goes_under_another_address_only_where_an_id_says_that_it_is_one_vcenter() {
    let here = login("vc.example.com");
    let own = node(1, "vsphere", source(Some("vc.example.com:443"), Some("uuid-1")));
    let other = node(2, "vsphere", source(Some("10.0.0.5"), Some("UUID-1")));
    let at = |nodes: &[&VmaNode], vm: Option<&VmContext>| {
        let nodes: Vec<VmaNode> = nodes.iter().map(|it| (*it).clone()).collect();
        login_at(&here, &nodes[0], &nodes, vm).map(|it| it.vcenter_host)
    };
    let named = Some("10.0.0.5".to_owned());
    assert_eq!(at(&[&own], None), Some("vc.example.com".to_owned()));
    assert_eq!(at(&[&other, &own], None), named);
    assert_eq!(at(&[&other], Some(&vm(Some(1)))), named, "the VM knows the id of its vCenter");
    assert_eq!(at(&[&other], None), None, "nobody says what is at the login's address");
    let nameless = node(2, "vsphere", source(Some("10.0.0.5"), None));
    assert_eq!(at(&[&nameless, &own], Some(&vm(Some(1)))), None);
    // The vCenter was installed anew since the VM was seen.
    let anew = node(1, "vsphere", source(Some("vc.example.com"), Some("uuid-2")));
    assert_eq!(at(&[&other, &anew], Some(&vm(Some(1)))), None);
}

#[test]
fn who_cannot_be_given_the_login_stands_in_for_nobody() {
    let nodes = [
        node(1, "vsphere", source(Some("vc.example.com"), Some("uuid-1"))),
        node(2, "vsphere", source(Some("10.0.0.5"), Some("uuid-1"))),
    ];
    let vm = vm(Some(1));
    let with = |login: &Credential| asked(&readers(&vm, Some(login), &nodes, None).unwrap());
    assert_eq!(with(&login("vc.example.com")), [id(1), id(2)]);
    assert_eq!(with(&login("vc9.example.com")), [id(1)]);
    assert_eq!(asked(&readers(&vm, None, &nodes, None).unwrap()), [id(1), id(2)]);
}

fn some_source() -> impl Strategy<Value = SourceName> {
    let host = prop::option::of(prop_oneof![Just("vc.example.com"), Just("vc2.example.com")]);
    let uuid = prop::option::of(prop_oneof![Just("uuid-1"), Just("uuid-2")]);
    (host, uuid).prop_map(|(host, uuid)| source(host, uuid))
}

fn some_nodes() -> impl Strategy<Value = Vec<VmaNode>> {
    let kind = prop_oneof![4 => Just("vsphere"), 1 => Just("folder")];
    prop::collection::vec((kind, some_source()), 0..6).prop_map(|nodes| {
        (1_u128..).zip(nodes).map(|(number, (kind, source))| node(number, kind, source)).collect()
    })
}

proptest! {
    #[test]
    fn a_password_goes_only_where_it_is_known_to_belong(
        nodes in some_nodes(), host in prop_oneof![Just("vc.example.com"), Just("vc2.example.com")],
        has_vm in any::<bool>(),
    ) {
        let (login, vm) = (login(host), vm(None));
        for node in &nodes {
            let Some(at) = login_at(&login, node, &nodes, has_vm.then_some(&vm)) else { continue };
            if at.vcenter_host == login.vcenter_host {
                continue;
            }
            prop_assert_eq!(Some(&at.vcenter_host), node.source.host.as_ref());
            prop_assert!(node.source.uuid.is_some());
            let mut said: Vec<SourceName> = nodes.iter()
                .filter(|it| it.takes_snapshots()).map(|it| it.source.clone()).collect();
            said.extend(has_vm.then(|| SourceName::of_vm(&vm)));
            said.retain(|it| it.host.as_deref() == Some(host) && it.uuid.is_some());
            prop_assert!(!said.is_empty());
            prop_assert!(said.iter().all(|it| it.uuid == node.source.uuid));
        }
    }

    #[test]
    fn an_order_that_may_be_out_is_never_doubled(
        nodes in some_nodes(), own in prop::option::of(1_u128..7), ordered in 1_u128..7,
    ) {
        let vm = vm(own);
        let Ok(readers) = readers(&vm, None, &nodes, Some(id(ordered))) else { return Ok(()) };
        let wanted = SourceName::of_vm(&vm);
        let holder = nodes.iter().find(|node| node.id == id(ordered));
        match holder {
            // A VMA that was set to another source was started anew, and copies nothing of before.
            Some(node) if !node.takes_snapshots() || node.source.is(&wanted) != Some(false) => {
                prop_assert_eq!(asked(&readers), [id(ordered)]);
            }
            _ => prop_assert!(!asked(&readers).contains(&id(ordered))),
        }
    }

    #[test]
    fn the_choice_begins_with_what_was_chosen_before_and_asks_each_once(
        nodes in some_nodes(), own in prop::option::of(1_u128..7),
    ) {
        let vm = vm(own);
        let (chosen, readers) = (choose_reader(&vm, &nodes), readers(&vm, None, &nodes, None));
        prop_assert_eq!(chosen.as_ref().err(), readers.as_ref().err());
        let (Ok(chosen), Ok(readers)) = (chosen, readers) else { return Ok(()) };
        let asked = asked(&readers);
        prop_assert_eq!(asked[0], chosen.id);
        prop_assert_eq!(readers.first().id, chosen.id);
        let mut once = asked.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), asked.len());
        let wanted = SourceName::of_vm(&vm);
        for stand_in in &asked[1..] {
            let node = nodes.iter().find(|node| node.id == *stand_in).unwrap();
            prop_assert!(node.takes_snapshots() && chosen.takes_snapshots());
            prop_assert_eq!(node.source.is(&wanted), Some(true));
        }
    }
}
