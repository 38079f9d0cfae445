//! The decision on a request: a pure function of the request and of the Nodes.
//!
//! The signer of the control plane checks subject, usages and kinds of names again
//! (`ValidateKubeletServingCSR` in Kubernetes' `pkg/apis/certificates/helpers.go`), but not the
//! requester and not the addresses: with any name in its certificate, one node could pose as
//! another node or as the API server.
//!
//! A node writes its own Node object, addresses included. So it is not enough that the names of a
//! request are among the Node's addresses: they must not belong to another Node or to the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::csr::{self, Csr};
use super::refusal::{Refusal, Rule};
use crate::node::Node;

/// The user name of a node is this and the Node's name (`pkg/apis/certificates` and the Node
/// authorizer of Kubernetes).
const USER: &str = "system:node:";

/// The group of all nodes, and the organization in their certificates.
const GROUP: &str = "system:nodes";

/// The usages of a server's certificate; kubelet leaves the third out for an ECDSA key.
const USAGES: [&str; 2] = ["digital signature", "server auth"];
const USAGE_OF_RSA: &str = "key encipherment";

/// The most bytes of a DNS name, and so of a Node's name (RFC 1123 section 2.1).
const NAME_BYTES_MAX: usize = 253;

/// The most bytes of a DNS name's label.
const LABEL_BYTES_MAX: usize = 63;

/// A request for a certificate, as the API server stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The user who made the request, as the API server authenticated it.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The requested usages.
    pub usages: Vec<String>,
    /// The certificate request in PEM.
    pub pem: Vec<u8>,
}

/// The names and addresses at which clients reach the cluster itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Names and addresses that no node has.
    pub everywhere: Vec<Pattern>,
    /// Addresses of API servers, which a node of the control plane has too.
    pub api_servers: BTreeSet<IpAddr>,
}

/// A reserved name, or reserved addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A DNS name in lower case.
    Name(String),
    /// One address or all addresses of a network.
    Network(ipnet::IpNet),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The names of the request are those of this Node.
    Approve(String),
    /// The request breaks a rule, and always will, because a request cannot be changed.
    Deny(Refusal),
    /// The request can become right when the named Node changes.
    Wait(String, Refusal),
}

/// Decides on a request.
#[must_use]
pub fn decide(request: &Request, nodes: &BTreeMap<String, Node>, reserved: &Reserved) -> Verdict {
    let (name, csr) = match own_words(request) {
        Ok(parsed) => parsed,
        Err(refusal) => return Verdict::Deny(refusal),
    };
    if let Err(refusal) = reserved.check(&csr) {
        return Verdict::Deny(refusal);
    }
    let wait =
        |node: &str, message| Verdict::Wait(node.to_owned(), Refusal::new(Rule::Address, message));
    let Some(node) = nodes.get(name) else {
        return wait(name, format!("there is no Node `{name}` yet"));
    };
    if let Some(message) = foreign(&csr, node).or_else(|| reserved.api_server(&csr, node)) {
        return wait(name, message);
    }
    match claimed(&csr, name, nodes) {
        Some((other, message)) => wait(other, message),
        None => Verdict::Approve(name.to_owned()),
    }
}

/// Checks all that the request alone tells, and returns the name of the node that made it.
fn own_words(request: &Request) -> Result<(&str, Csr), Refusal> {
    let name = requester(request)?;
    usages(&request.usages)?;
    let csr = csr::parse(&request.pem)?;
    let subject = |what, found: &str, expected: &str| {
        let message = format!("the subject's {what} is `{found}`; the requester's is `{expected}`");
        Err(Refusal::new(Rule::Subject, message))
    };
    if csr.organization != GROUP {
        return subject("organization", &csr.organization, GROUP);
    }
    if csr.common_name != request.user {
        return subject("common name", &csr.common_name, &request.user);
    }
    if let Some(other) = csr.names.iter().find(|name| !is_host_name(name)) {
        let message = format!("the alternative name {other:?} is not a host name");
        return Err(Refusal::new(Rule::Names, message));
    }
    Ok((name, csr))
}

fn requester(request: &Request) -> Result<&str, Refusal> {
    let refuse = |message| Err(Refusal::new(Rule::Requester, message));
    let user = &request.user;
    let Some(name) = user.strip_prefix(USER).filter(|name| is_host_name(name)) else {
        return refuse(format!("the requester {user:?} is not a node (`{USER}NAME`)"));
    };
    if !request.groups.iter().any(|group| group == GROUP) {
        return refuse(format!("the requester `{user}` is not in the group `{GROUP}`"));
    }
    Ok(name)
}

fn usages(usages: &[String]) -> Result<(), Refusal> {
    let found: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let mut rest = found.clone();
    let complete = USAGES.iter().all(|usage| rest.remove(usage));
    rest.remove(USAGE_OF_RSA);
    if complete && rest.is_empty() {
        return Ok(());
    }
    let found: Vec<&str> = found.into_iter().collect();
    let message = format!(
        "the usages are {found:?}; a server's are `{}`, `{}` and, with RSA, `{USAGE_OF_RSA}`",
        USAGES[0], USAGES[1]
    );
    Err(Refusal::new(Rule::Usages, message))
}

/// True for a DNS name in lower case, without wildcards (RFC 1123 section 2.1), that is not an address
/// in text form. A Node's name is one too (`ValidateNodeName` in Kubernetes).
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

/// Returns a message about a name of the request that the Node does not have.
fn foreign(csr: &Csr, node: &Node) -> Option<String> {
    let name = csr.names.iter().find(|name| !node.names.contains(*name)).cloned();
    let address = || csr.addresses.iter().find(|it| !node.addresses.contains(it));
    let other = name.or_else(|| address().map(ToString::to_string))?;
    Some(format!("`{other}` is not an address of the Node `{}`", node.name))
}

/// Returns another Node that has a name of the request too, with a message.
fn claimed<'a>(
    csr: &Csr,
    name: &str,
    nodes: &'a BTreeMap<String, Node>,
) -> Option<(&'a str, String)> {
    nodes.values().filter(|node| node.name != name).find_map(|other| {
        let shared = csr.names.iter().find(|name| other.names.contains(*name)).cloned();
        let address = || csr.addresses.iter().find(|it| other.addresses.contains(it));
        let shared = shared.or_else(|| address().map(ToString::to_string))?;
        let message = format!(
            "`{shared}` is also an address of the Node `{0}`; delete that Node if its machine is \
             gone: kubectl delete node {0}",
            other.name
        );
        Some((other.name.as_str(), message))
    })
}

impl Reserved {
    /// Refuses a name that clients use for the cluster itself.
    fn check(&self, csr: &Csr) -> Result<(), Refusal> {
        let name = csr.names.iter().find(|name| self.has_name(name)).cloned();
        let address = || csr.addresses.iter().find(|it| self.has_address(**it));
        let Some(found) = name.or_else(|| address().map(ToString::to_string)) else {
            return Ok(());
        };
        let message =
            format!("`{found}` is not a node's: it belongs to the cluster, or to no host");
        Err(Refusal::new(Rule::Names, message))
    }

    fn has_name(&self, name: &str) -> bool {
        let mut labels = name.split('.');
        let is_api =
            labels.next() == Some("kubernetes") && matches!(labels.next(), None | Some("default"));
        // `NAME.NAMESPACE.svc` and, with the cluster's domain, `NAME.NAMESPACE.svc.DOMAIN`.
        let is_service = name.split('.').nth(2) == Some("svc");
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_listed =
            self.everywhere.iter().any(|it| matches!(it, Pattern::Name(it) if it == name));
        is_api || is_service || is_local || is_listed
    }

    /// Returns a message about an address of an API server that this Node may not have.
    fn api_server(&self, csr: &Csr, node: &Node) -> Option<String> {
        let found = csr.addresses.iter().find(|it| self.api_servers.contains(it))?;
        (!node.is_control_plane).then(|| {
            format!("`{found}` is an API server's address, and `{}` is no control plane", node.name)
        })
    }

    /// True for an address that no node can have: the listed ones, and those that kubelet refuses as
    /// its own (`validateNodeIP` in its `kubelet_node_status.go`).
    fn has_address(&self, address: IpAddr) -> bool {
        let is_link_local = match address {
            IpAddr::V4(four) => four.is_link_local() || four.is_broadcast(),
            IpAddr::V6(six) => six.is_unicast_link_local(),
        };
        let is_listed = self
            .everywhere
            .iter()
            .any(|it| matches!(it, Pattern::Network(network) if network.contains(&address)));
        address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || is_link_local
            || is_listed
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    /// Parses `NAME`, `ADDRESS` or `ADDRESS/LENGTH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse::<IpAddr>().map(ipnet::IpNet::from).or_else(|_| text.parse());
        match network {
            Ok(network) => Ok(Self::Network(network)),
            Err(_) if is_host_name(text) => Ok(Self::Name(text.to_owned())),
            Err(_) => Err(format!("{text:?} is not a host name, an address or a network")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
