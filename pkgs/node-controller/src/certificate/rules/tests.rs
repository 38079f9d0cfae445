//! Each rule with the request that just breaks it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::{Pattern, Request, Reserved, Verdict, decide};
use crate::certificate::refusal::Rule;
use crate::node::Node;

/// The content of a request.
#[derive(Debug, Clone)]
pub(in crate::certificate) struct Wanted {
    pub(in crate::certificate) organization: String,
    pub(in crate::certificate) common_name: String,
    pub(in crate::certificate) names: Vec<String>,
    pub(in crate::certificate) addresses: Vec<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            organization: "system:nodes".to_owned(),
            common_name: "system:node:node-1".to_owned(),
            names: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// Makes a request with a new key.
pub(in crate::certificate) fn pem(wanted: &Wanted) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::OrganizationName, &*wanted.organization);
    parameters.distinguished_name.push(DnType::CommonName, &*wanted.common_name);
    let names = wanted.names.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
    let addresses = wanted.addresses.iter().map(|ip| SanType::IpAddress(ip.parse().unwrap()));
    parameters.subject_alt_names = names.chain(addresses).collect();
    let request = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    request.pem().unwrap().into_bytes()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A request of `node-1` for these names.
fn request(names: &[&str], addresses: &[&str]) -> Request {
    let wanted = Wanted { names: owned(names), addresses: owned(addresses), ..Wanted::default() };
    Request {
        user: "system:node:node-1".to_owned(),
        groups: owned(&["system:nodes", "system:authenticated"]),
        usages: owned(&["digital signature", "server auth"]),
        pem: pem(&wanted),
    }
}

fn nodes() -> BTreeMap<String, Node> {
    let node = |name: &str, addresses: &[(&'static str, &'static str)]| {
        (name.to_owned(), Node::new(name, addresses.iter().copied()))
    };
    let mut nodes = BTreeMap::from([
        node(
            "node-1",
            &[
                ("Hostname", "node-1"),
                ("InternalIP", "192.0.2.7"),
                ("InternalIP", "2001:db8::7"),
                ("ExternalDNS", "node-1.example"),
                ("InternalIP", "10.96.0.1"),
                ("InternalIP", "127.0.0.1"),
                ("InternalIP", "203.0.113.100"),
                ("InternalIP", "203.0.113.1"),
                ("InternalIP", "192.0.2.99"),
                ("InternalDNS", "kubernetes.default.svc"),
            ],
        ),
        node("node-2", &[("Hostname", "node-2"), ("InternalIP", "192.0.2.8")]),
        node("node-3", &[("Hostname", "node-3"), ("InternalIP", "192.0.2.99")]),
        node("control", &[("InternalIP", "203.0.113.1"), ("InternalIP", "203.0.113.100")]),
    ]);
    nodes.get_mut("control").unwrap().is_control_plane = true;
    nodes
}

fn reserved() -> Reserved {
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    Reserved {
        everywhere: vec![pattern("10.96.0.1"), pattern("203.0.113.96/27"), pattern("api.example")],
        api_servers: ["203.0.113.1".parse().unwrap()].into(),
    }
}

fn verdict(request: &Request) -> Verdict {
    decide(request, &nodes(), &reserved())
}

fn denied(request: &Request, rule: Rule, expected: &str) {
    match verdict(request) {
        Verdict::Deny(refusal) => {
            assert_eq!(refusal.rule, rule, "{refusal}");
            assert!(refusal.message.contains(expected), "{refusal}");
        }
        other => panic!("{expected}: {other:?}"),
    }
}

fn waits(request: &Request, node: &str, expected: &str) {
    match verdict(request) {
        Verdict::Wait(found, refusal) => {
            assert_eq!((found.as_str(), refusal.rule), (node, Rule::Address));
            assert!(refusal.message.contains(expected), "{refusal}");
        }
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn a_node_gets_a_certificate_for_its_own_names() {
    let approved = Verdict::Approve("node-1".to_owned());
    let all = request(&["node-1", "node-1.example"], &["192.0.2.7", "2001:db8::7"]);
    assert_eq!(verdict(&all), approved);
    assert_eq!(verdict(&request(&[], &["192.0.2.7"])), approved);
    let with_rsa = owned(&["key encipherment", "server auth", "digital signature"]);
    assert_eq!(verdict(&Request { usages: with_rsa, ..request(&["node-1"], &[]) }), approved);
}

#[test]
fn only_a_node_can_ask() {
    let valid = request(&["node-1"], &["192.0.2.7"]);
    for user in ["", "admin", "system:node:", "system:node:../a", "system:node:Node-1"] {
        let other = Request { user: user.to_owned(), ..valid.clone() };
        denied(&other, Rule::Requester, "is not a node");
    }
    let outside = Request { groups: owned(&["system:authenticated"]), ..valid.clone() };
    denied(&outside, Rule::Requester, "is not in the group `system:nodes`");
    let other = Request { user: "system:node:node-2".to_owned(), ..valid };
    denied(&other, Rule::Subject, "the requester's is `system:node:node-2`");
}

#[test]
fn the_subject_is_the_requesters() {
    let with = |organization: &str, common_name: &str| {
        let wanted = Wanted {
            organization: organization.to_owned(),
            common_name: common_name.to_owned(),
            names: owned(&["node-1"]),
            addresses: Vec::new(),
        };
        Request { pem: pem(&wanted), ..request(&["node-1"], &[]) }
    };
    denied(&with("system:masters", "system:node:node-1"), Rule::Subject, "`system:masters`");
    denied(&with("system:nodes", "system:node:node-2"), Rule::Subject, "`system:node:node-2`");
    denied(&with("system:nodes", "node-1"), Rule::Subject, "common name is `node-1`");
}

#[test]
fn the_usages_are_a_servers() {
    for usages in [
        &[][..],
        &["server auth"],
        &["digital signature", "client auth"],
        &["digital signature", "server auth", "client auth"],
        &["digital signature", "key encipherment"],
        &["digital signature", "server auth", "cert sign"],
    ] {
        let other = Request { usages: owned(usages), ..request(&["node-1"], &[]) };
        denied(&other, Rule::Usages, "a server's are");
    }
}

#[test]
fn a_name_that_the_node_does_not_have_waits_for_the_node() {
    waits(&request(&["node-1", "node-9"], &[]), "node-1", "`node-9` is not an address of the Node");
    waits(&request(&["node-1"], &["192.0.2.200"]), "node-1", "`192.0.2.200` is not an address");
    waits(&request(&["node-2"], &["192.0.2.8"]), "node-1", "`node-2` is not an address");
    let unknown = Wanted {
        common_name: "system:node:new".to_owned(),
        names: owned(&["new"]),
        ..Wanted::default()
    };
    let user = unknown.common_name.clone();
    let early = Request { user, pem: pem(&unknown), ..request(&["node-1"], &[]) };
    waits(&early, "new", "there is no Node `new` yet");
}

#[test]
fn a_node_cannot_take_a_name_by_writing_it_into_its_own_object() {
    // All of these are in the status of `node-1`, which `node-1` itself writes.
    let cluster = "it belongs to the cluster, or to no host";
    denied(&request(&["kubernetes.default.svc"], &[]), Rule::Names, cluster);
    denied(&request(&["node-1"], &["10.96.0.1"]), Rule::Names, cluster);
    denied(&request(&["node-1"], &["127.0.0.1"]), Rule::Names, cluster);
    denied(&request(&["node-1"], &["203.0.113.100"]), Rule::Names, cluster);
    waits(&request(&["node-1"], &["203.0.113.1"]), "node-1", "is an API server's address");
    waits(&request(&["node-1"], &["192.0.2.99"]), "node-3", "kubectl delete node node-3");
}

#[test]
fn names_of_the_cluster_are_denied_before_the_node_is_known() {
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc.cluster.local",
        "kube-dns.kube-system.svc",
        "kube-dns.kube-system.svc.cluster.local",
        "localhost",
        "a.localhost",
        "api.example",
    ] {
        denied(&request(&[name], &[]), Rule::Names, "it belongs to the cluster");
    }
    for address in ["0.0.0.0", "::1", "224.0.0.1", "169.254.169.254", "fe80::1", "255.255.255.255"]
    {
        denied(&request(&[], &[address]), Rule::Names, "it belongs to the cluster");
    }
    for name in ["kubernetes.example", "kubernetes-1", "svc.example", "localhost.example"] {
        waits(&request(&[name], &[]), "node-1", "is not an address of the Node");
    }
}

#[test]
fn a_node_of_the_control_plane_has_the_address_of_its_api_server() {
    let wanted = Wanted {
        common_name: "system:node:control".to_owned(),
        addresses: owned(&["203.0.113.1"]),
        ..Wanted::default()
    };
    let user = wanted.common_name.clone();
    let own = Request { user, pem: pem(&wanted), ..request(&["node-1"], &[]) };
    let mut nodes = nodes();
    nodes.remove("node-1");
    assert_eq!(decide(&own, &nodes, &reserved()), Verdict::Approve("control".to_owned()));
    nodes.get_mut("control").unwrap().is_control_plane = false;
    assert!(matches!(decide(&own, &nodes, &reserved()), Verdict::Wait(..)));
}

#[test]
fn a_name_is_a_plain_host_name() {
    for name in ["*.example", "Node-1", "node_1", "192.0.2.7", "node-1.", "-a", "a..b"] {
        denied(&request(&[name], &[]), Rule::Names, "is not a host name");
    }
}

proptest! {
    #[test]
    fn no_user_and_no_usages_are_approved_by_chance(user: String, usages: Vec<String>) {
        let valid = request(&["node-1"], &[]);
        let other = Request { user, ..valid.clone() };
        prop_assert!(matches!(verdict(&other), Verdict::Deny(_)));
        let other = Request { usages, ..valid };
        prop_assert!(matches!(verdict(&other), Verdict::Deny(_)));
    }

    #[test]
    fn a_pattern_is_one_of_three_forms(text in "[a-z0-9./:*-]{0,20}") {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let is_name = matches!(&pattern, Pattern::Name(name) if *name == text);
            prop_assert!(is_name || text.contains(['.', ':']));
        }
    }
}
