//! The cluster of a scenario: its credentials, and the instructions that concern it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::data::Scenario;
use super::instruction::{Api, Kubectl};
use super::rig::Rig;
use crate::cluster::{
    self, Change, Changes, Channel, Cluster, Credentials, Handover, Settings, State, node, pki,
    template,
};
use crate::credential::token::Token;
use crate::port;
use crate::progress::Progress;
use crate::qemu::{Forward, Network, segment};

/// Seconds since the expiry of the token `${expired-token}`.
const EXPIRED: i64 = 60 * 60;

/// Seconds until the expiry of the token `${new-token}`.
const VALID: i64 = 24 * 60 * 60;

/// The longest part of an answer that an error repeats.
const ANSWER_CHARS_MAX: usize = 2000;

/// A cluster that runs, with the credentials of the next boots.
pub struct Joint {
    cluster: Cluster,
    /// The changes that `cargo xtask cluster` shows to its user.
    changes: Changes,
    /// The nodes by their names; true if Ready.
    nodes: BTreeMap<String, bool>,
    credentials: Credentials,
    channel: Channel,
}

impl Joint {
    /// Starts the scenario's cluster, if it has one.
    pub fn start(
        rig: &Rig,
        scenario: &Scenario,
        folder: &Path,
        progress: &Progress,
    ) -> Result<Option<Self>> {
        let Some(wanted) = scenario.cluster else { return Ok(None) };
        let tools = rig.cluster.get().context("the programs of a cluster were not built")?;
        let settings = Settings { port: port::free()?, cards: wanted.nodes };
        let state = State::open(&folder.join("cluster"))?;
        let mut cluster = Cluster::start(tools, state, settings, progress)?;
        let pairs = [("kiln.join", "${join}"), ("kiln.hostname", "${node}")];
        let mut default = Credentials::from(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
        if wanted.network {
            cluster::install_network(&tools.add_ons, &mut cluster, progress)?;
            default.append(&mut cluster.registry_credentials()?);
            if wanted.locked_registry {
                cluster.start_locked_registry()?;
            }
        }
        let credentials = scenario.credentials.clone().unwrap_or(default);
        let (changes, nodes) = (Changes::new(), BTreeMap::new());
        Ok(Some(Self { cluster, changes, nodes, credentials, channel: scenario.channel }))
    }

    /// The network card of a node.
    pub fn network(&self, number: u8) -> Network {
        let socket = self.cluster.segment.socket(number);
        Network::Segment { socket, mac: node::mac(number) }
    }

    /// Forwards ports to the only node, which gets the first address.
    pub fn forwards(&self, ports: &[u16]) -> Result<Vec<Forward>> {
        let forward = |&guest: &u16| -> Result<Forward> {
            Ok(Forward { host: self.cluster.segment.forward(segment::FIRST, guest)?, guest })
        };
        ports.iter().map(forward).collect()
    }

    /// Prepares the identity and the credentials of a node.
    pub fn hand_over(&self, number: u8, folder: &Path) -> Result<Handover> {
        let folder = folder.join(node::name(number));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let credentials = self.fill(&self.credentials, number)?;
        let mut handover = node::hand_over(self.channel, &credentials, &folder)?;
        handover.arguments.extend(["-uuid".to_owned(), node::uuid(number)]);
        Ok(handover)
    }

    /// Replaces the names in credentials for a node.
    pub fn fill(&self, credentials: &Credentials, number: u8) -> Result<Credentials> {
        let fill = |(name, text): (&String, &String)| -> Result<(String, String)> {
            Ok((name.clone(), template::fill(text, |name| self.value(name, number))?))
        };
        credentials.iter().map(fill).collect()
    }

    fn value(&self, name: &str, number: u8) -> Result<String> {
        let state = &self.cluster.state;
        Ok(match name {
            "join" => self.cluster.join(&state.token)?,
            "server" => self.cluster.url_for_nodes(),
            "token" => state.token.reveal(),
            "ca" => state.pki.text(pki::CA)?,
            "node" => node::name(number),
            "locked-registry" => self.cluster.locked_registry_url()?,
            "registry" => self.cluster.registry_url()?,
            "registry-ca" => state.pki.text(pki::REGISTRY_CA)?,
            "foreign-ca" => pki::foreign_authority()?,
            "new-token" => self.token(VALID)?,
            "expired-token" => self.token(-EXPIRED)?,
            _ => bail!("`{name}` has no value"),
        })
    }

    /// Makes a token that expires after these seconds.
    fn token(&self, seconds: i64) -> Result<String> {
        let token = Token::random()?;
        self.cluster.apply(&cluster::secret(&token, seconds)?)?;
        Ok(token.reveal())
    }

    /// Sets the channel of the next boots.
    pub fn send_through(&mut self, channel: Channel) {
        self.channel = channel;
    }

    /// Sets the credentials of the next boots.
    pub fn give(&mut self, credentials: &Credentials) {
        self.credentials = credentials.clone();
    }

    /// Fails if a program of the control plane has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.cluster.check()
    }

    /// Runs kubectl once; an error says why the answer is not as expected.
    pub fn kubectl(&self, kubectl: &Kubectl) -> Result<()> {
        let answer = self.cluster.ask(&kubectl.args)?;
        let text = format!("{}{}", answer.output, answer.messages);
        let shown: String = text.chars().take(ANSWER_CHARS_MAX).collect();
        ensure!(
            answer.success != kubectl.fails,
            "it {}: {shown}",
            if kubectl.fails { "succeeded" } else { "failed" }
        );
        for wanted in &kubectl.contains {
            ensure!(text.contains(wanted), "there is no {wanted:?} in: {shown}");
        }
        for unwanted in &kubectl.lacks {
            ensure!(!text.contains(unwanted), "there is {unwanted:?} in: {shown}");
        }
        Ok(())
    }

    /// The last reported state of a node; true if it is Ready.
    pub fn is_ready(&mut self, number: u8) -> Result<Option<bool>> {
        while let Some((_, change)) = self.changes.next(&self.cluster)? {
            if let Change::Node { name, ready, .. } = change {
                self.nodes.insert(name, ready);
            }
        }
        Ok(self.nodes.get(&node::name(number)).copied())
    }

    /// Creates or changes the objects of a file.
    pub fn apply(&self, file: &Path) -> Result<()> {
        self.cluster.apply_file(file)
    }

    /// Stops or starts the API server.
    pub fn api(&mut self, state: Api) -> Result<()> {
        match state {
            Api::Stop => self.cluster.stop_api(),
            Api::Start => self.cluster.start_api(),
        }
    }

    /// Copies the logs of the control plane, for a scenario that has failed.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(self.cluster.state.logs())? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }
}
