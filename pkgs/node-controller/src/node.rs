//! The Nodes of the cluster, reduced to what decisions need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The label of a node of the control plane. A kubelet cannot set it on its own Node (the admission
/// plugin `NodeRestriction`).
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The most addresses of one Node that are remembered.
const ADDRESSES_MAX: usize = 128;

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The object's name.
    pub name: String,
    /// Host names in `status.addresses`.
    pub names: BTreeSet<String>,
    /// IP addresses in `status.addresses`.
    pub addresses: BTreeSet<IpAddr>,
    /// True if an administrator made it a node of the control plane.
    pub is_control_plane: bool,
}

impl Node {
    /// Creates a Node from the types and values of its addresses.
    ///
    /// The types mean what they mean to kubelet (`addressesToHostnamesAndIPs` in its
    /// `certificate/kubelet.go`): a `Hostname` may be an address.
    pub fn new<'a>(name: &str, addresses: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut node = Self { name: name.to_owned(), ..Self::default() };
        for (kind, value) in addresses.take(ADDRESSES_MAX) {
            let ip = value.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
            match (kind, ip) {
                ("Hostname" | "InternalIP" | "ExternalIP", Some(ip)) => {
                    node.addresses.insert(ip);
                }
                ("Hostname" | "InternalDNS" | "ExternalDNS", None) => {
                    node.names.insert(value.to_owned());
                }
                _ => {}
            }
        }
        node
    }

    /// Marks a node of the control plane by its labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Option<&BTreeMap<String, String>>) -> Self {
        self.is_control_plane = labels.is_some_and(|labels| labels.contains_key(CONTROL_PLANE));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn only_known_kinds_of_addresses_are_taken() {
        let list = [
            ("Hostname", "node-1"),
            ("InternalDNS", "node-1.internal"),
            ("ExternalDNS", "203.0.113.9"),
            ("InternalIP", "192.0.2.7"),
            ("ExternalIP", "node-1"),
            ("ExternalIP", "::ffff:203.0.113.7"),
            ("InternalIP", "2001:db8::7"),
            ("PodIP", "10.0.0.1"),
        ];
        let node = Node::new("node-1", list.into_iter());
        assert_eq!(node.names, ["node-1", "node-1.internal"].map(str::to_owned).into());
        let addresses = ["192.0.2.7", "203.0.113.7", "2001:db8::7"];
        assert_eq!(node.addresses, addresses.map(|ip| ip.parse().unwrap()).into());
        assert!(Node::new("10.0.0.9", [("Hostname", "10.0.0.9")].into_iter()).names.is_empty());
    }
}
