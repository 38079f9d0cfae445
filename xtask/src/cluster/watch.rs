//! Changes of the cluster's nodes and certificates, as the API server reports them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Cluster;
use crate::process::{Command, Running};

/// The kind of certificate with which kubelet calls the API server.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The kind of certificate that kubelet's own API shows.
const SERVING: &str = "kubernetes.io/kubelet-serving";

/// The shortest time between two starts of a watch, which ends when the API server is away.
const PAUSE: Duration = Duration::from_secs(2);

/// The beginning of a node's user name, which is the subject of its certificate.
const USER: &str = "system:node:";

/// The character between two columns. With `--watch`, kubectl replaces tabs by spaces to align columns.
const BETWEEN: char = '|';

const NODES: &str = concat!(
    r#"{.metadata.name}|{.status.conditions[?(@.type=="Ready")].status}"#,
    r#"|{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}"#
);

const REQUESTS: &str = concat!(
    r"{.spec.signerName}|{.status.conditions[*].type}|{.spec.request}",
    r#"|{.status.certificate}{"\n"}"#
);

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The state of a node.
    Node {
        /// Its name.
        name: String,
        /// True if it is Ready.
        ready: bool,
        /// Its address; empty until kubelet has reported it.
        address: String,
    },
    /// A node's request for a certificate.
    Certificate {
        /// The node's name.
        node: String,
        /// True for the certificate of kubelet's own API, false for that of a client.
        serving: bool,
        /// The state.
        state: Request,
    },
}

/// The state of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// There is no decision yet.
    Pending,
    /// It was denied, or could not be signed.
    Refused,
    /// The certificate is there.
    Issued,
}

/// The changes since the start, each with the time of its arrival.
#[derive(Debug)]
pub struct Changes {
    receiver: Receiver<(Instant, Change)>,
    sender: Sender<(Instant, Change)>,
    watches: Vec<(Watch, Option<(Running, Instant)>)>,
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    resource: &'static str,
    columns: &'static str,
    parse: fn(&str) -> Option<Change>,
}

impl Changes {
    /// Begins to watch at the next call of [`Changes::next`].
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        let watches = [
            Watch { resource: "nodes", columns: NODES, parse: node },
            Watch { resource: "csr", columns: REQUESTS, parse: request },
        ];
        Self { receiver, sender, watches: watches.map(|watch| (watch, None)).into() }
    }

    /// Returns the next change, if there is one. A watch that has ended is started again.
    pub fn next(&mut self, cluster: &Cluster) -> Result<Option<(Instant, Change)>> {
        for (watch, running) in &mut self.watches {
            let ended = match running {
                Some((running, start)) => start.elapsed() > PAUSE && running.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                let started = watch.start(cluster.kubectl(), self.sender.clone())?;
                *running = Some((started, Instant::now()));
            }
        }
        Ok(self.receiver.try_recv().ok())
    }
}

impl Watch {
    fn start(&self, kubectl: Command, sender: Sender<(Instant, Change)>) -> Result<Running> {
        let output = format!("jsonpath={}", self.columns);
        let command = kubectl.args(["get", self.resource, "--watch", "--output", &output]);
        let command = command.own_group().output_to(Stdio::piped(), Stdio::null());
        let mut running = command.spawn()?;
        let lines = running.child().stdout.take().context("kubectl's output is not a pipe")?;
        let parse = self.parse;
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(std::io::Result::ok) {
                if let Some(change) = parse(&line) {
                    // The receiver is gone if the cluster has stopped in the meantime.
                    let _ = sender.send((Instant::now(), change));
                }
            }
        });
        Ok(running)
    }
}

fn node(line: &str) -> Option<Change> {
    let mut columns = line.split(BETWEEN);
    let name = columns.next().filter(|name| !name.is_empty())?.to_owned();
    let ready = columns.next()? == "True";
    Some(Change::Node { name, ready, address: columns.next()?.to_owned() })
}

fn request(line: &str) -> Option<Change> {
    let columns: Vec<&str> = line.split(BETWEEN).collect();
    let [signer, conditions, request, certificate] = columns[..] else { return None };
    let serving = match signer {
        CLIENT => false,
        SERVING => true,
        _ => return None,
    };
    let has = |word: &str| conditions.split(' ').any(|condition| condition == word);
    let state = match certificate.is_empty() {
        false => Request::Issued,
        true if has("Denied") || has("Failed") => Request::Refused,
        true => Request::Pending,
    };
    Some(Change::Certificate { node: subject(request)?, serving, state })
}

/// Returns the node's name in a request: base64 of PEM, which is base64 of DER.
///
/// The subject's common name is text in DER, and ends where the next field's tag begins.
fn subject(request: &str) -> Option<String> {
    let pem = String::from_utf8(STANDARD.decode(request).ok()?).ok()?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).ok()?;
    let at = der.windows(USER.len()).position(|window| window == USER.as_bytes())?;
    let length = usize::from(*der.get(at.checked_sub(1)?)?);
    let name = der.get(at + USER.len()..at + length)?;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn signing_request(name: &str) -> String {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let request = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        STANDARD.encode(request.pem().unwrap())
    }

    #[test]
    fn a_node_is_ready_only_if_it_says_so() {
        let parsed = |line| node(line).unwrap();
        let change = |ready, address: &str| Change::Node {
            name: "a".into(),
            ready,
            address: address.to_owned(),
        };
        assert_eq!(parsed("a|True|10.0.2.15"), change(true, "10.0.2.15"));
        assert_eq!(parsed("a|Unknown|"), change(false, ""));
        assert_eq!(parsed("a||"), change(false, ""));
        assert_eq!(node(""), None);
    }

    #[test]
    fn columns_are_not_separated_by_what_kubectl_changes() {
        for (columns, between) in [(NODES, 2), (REQUESTS, 3)] {
            assert!(!columns.contains(r"\t") && !columns.contains('\t'), "{columns}");
            assert_eq!(columns.matches(BETWEEN).count(), between, "{columns}");
        }
    }

    #[test]
    fn a_request_belongs_to_the_node_that_its_subject_names() {
        let line = |conditions: &str, certificate: &str| {
            let request = signing_request("system:node:kiln-node-1");
            format!("{SERVING}|{conditions}|{request}|{certificate}")
        };
        let check = |line: &str, state| {
            let node = "kiln-node-1".to_owned();
            assert_eq!(request(line), Some(Change::Certificate { node, serving: true, state }));
        };
        check(&line("", ""), Request::Pending);
        check(&line("Approved", ""), Request::Pending);
        check(&line("Denied", ""), Request::Refused);
        check(&line("Approved", "LS0t"), Request::Issued);
        assert_eq!(request(&format!("other||{}|", signing_request("system:node:a"))), None);
        assert_eq!(request(&format!("{CLIENT}||{}|", signing_request("a"))), None);
    }

    proptest! {
        #[test]
        fn any_line_gives_a_change_or_nothing(line in ".*") {
            let _ = (node(&line), request(&line));
        }

        #[test]
        fn any_request_gives_a_name_or_nothing(bytes: Vec<u8>) {
            let _ = subject(&STANDARD.encode(STANDARD.encode(bytes)));
        }
    }
}
