//! The things that all reconcilers share: the client, the Nodes, and the reported state.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use tokio::sync::broadcast;

use crate::certificate::rules::{Pattern, Reserved};
use crate::node::Node;
use crate::options::Options;
use crate::status::Status;

/// The longest silence of a connection. A watch lasts up to 290 s, and the API server ends it then.
const SILENCE_MAX: Duration = Duration::from_secs(295);

/// The longest time of one call.
pub const CALL_MAX: Duration = Duration::from_secs(30);

/// The most changes of Nodes that wait for a reconciler; a slow reconciler looks at all of its work.
const CHANGES_MAX: usize = 256;

/// The name under which events appear.
const NAME: &str = "kiln-node-controller";

/// The shared things.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The address of the API server.
    pub server: String,
    /// Writes events.
    pub recorder: Recorder,
    /// The state that the operations port shows.
    pub status: Status,
    /// Names and addresses that no node may have, from the command line and the client.
    pub reserved: Reserved,
    nodes: Mutex<BTreeMap<String, Node>>,
    changes: broadcast::Sender<String>,
}

impl Context {
    /// Creates a client from a kubeconfig or the pod's service account. Sends no request.
    pub async fn new(options: &Options) -> Result<Self> {
        let mut config = match &options.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .with_context(|| format!("cannot use {}", path.display()))?
            }
            None => Config::incluster().context(
                "cannot find a service account; run in a pod, or pass --kubeconfig FILE",
            )?,
        };
        config.read_timeout = Some(SILENCE_MAX);
        let server = config.cluster_url.to_string();
        let reserved = reserved(&options.reserved, config.cluster_url.host());
        let client = Client::try_from(config).context("cannot create a client")?;
        let reporter = Reporter { controller: NAME.to_owned(), instance: None };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            server,
            status: Status::default(),
            reserved,
            nodes: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_MAX),
        })
    }

    /// Returns the Nodes that are known now.
    pub fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        // A panic ends the program, so the lock is never poisoned.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver of the names of Nodes that change from now on.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Reports that a Node has changed.
    pub fn changed(&self, name: &str) {
        // Sending fails without a receiver, and then no reconciler waits for the change.
        let _ = self.changes.send(name.to_owned());
    }
}

/// Adds the address at which this program reaches the API server.
fn reserved(listed: &[Pattern], host: Option<&str>) -> Reserved {
    let mut reserved = Reserved { everywhere: listed.to_vec(), ..Reserved::default() };
    let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    match host.map(|host| (host.parse::<IpAddr>(), host.parse::<Pattern>())) {
        Some((Ok(address), _)) => {
            reserved.api_servers.insert(address.to_canonical());
        }
        Some((_, Ok(name))) => reserved.everywhere.push(name),
        _ => {}
    }
    reserved
}

#[cfg(test)]
mod tests {
    use super::{Context, reserved};
    use crate::options::{self, Command};

    const KUBECONFIG: &str = "{apiVersion: v1, kind: Config, current-context: a,
        contexts: [{name: a, context: {cluster: a, user: a}}],
        clusters: [{name: a, cluster: {server: 'https://192.0.2.1:6443'}}],
        users: [{name: a, user: {token: secret}}]}";

    /// A client needs a provider of cryptography, which the features of three crates decide.
    #[tokio::test]
    async fn a_client_is_made_without_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, KUBECONFIG).unwrap();
        let arguments = ["--kubeconfig".into(), file.into_os_string()];
        let Command::Run(options) = options::parse(&arguments).unwrap() else { panic!("no help") };
        let context = Context::new(&options).await.unwrap();
        assert_eq!(context.server, "https://192.0.2.1:6443/");
        assert_eq!(context.reserved.api_servers.len(), 1);
    }

    #[test]
    fn the_servers_own_address_is_reserved() {
        for (host, address, name) in [
            ("192.0.2.1", 1, 0),
            ("[2001:db8::1]", 1, 0),
            ("api.example", 0, 1),
            ("not a host", 0, 0),
        ] {
            let found = reserved(&[], Some(host));
            let counts = (found.api_servers.len(), found.everywhere.len());
            assert_eq!(counts, (address, name), "{host}");
        }
    }
}
