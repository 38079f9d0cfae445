//! Requests to the syncer's HTTP API.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::header::AUTHORIZATION;

use crate::key::SiteKey;
use crate::replica::copy::Copies;
use crate::replica::plan::Transfer;
use crate::replica::store::{Store, fill};
use crate::table::Changes;

/// The time to connect, and for the head of an answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The time for an answer about changes. The syncer holds a request for up to 10 s.
const CHANGES_MAX: Duration = Duration::from_secs(20);

/// The time for an answer to a request that is passed on.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// The time for a pack, so that a syncer that hangs does not block a replica.
const PACK_MAX: Duration = Duration::from_mins(5);

/// The most bytes of an answer about changes: 100,000 sites have about 40 MB.
const CHANGES_BYTES_MAX: u64 = 256 << 20;

/// A client of the syncer.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    /// The beginnings of all addresses, without a slash at the end: one for each syncer.
    servers: Vec<String>,
    /// The syncer that is asked: the one that answered last, or the next one after a failure.
    turn: Arc<AtomicUsize>,
    /// A file with the token. It is read for each request, so that the token can be replaced.
    token: PathBuf,
}

impl Client {
    /// Makes a client of one or more syncers at addresses such as
    /// `http://syncer.pages.svc.cluster.local:8081`.
    #[must_use]
    pub fn new<T: AsRef<str>>(servers: &[T], token: PathBuf) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .max_redirects(0)
            .proxy(None)
            .build();
        let servers = servers.iter().map(|one| one.as_ref().trim_end_matches('/').to_owned());
        let (servers, turn) = (servers.collect(), Arc::default());
        Self { agent: config.into(), servers, turn, token }
    }

    /// Returns the changes after a generation, as soon as there are some; without a generation, all
    /// sites.
    pub fn changes(&self, after: Option<&str>) -> Result<Changes> {
        self.list("v1/sites", after)
    }

    /// Returns the manifests that changed after a generation, as soon as there are some; without a
    /// generation, all manifests. For another syncer.
    pub fn copies(&self, after: Option<&str>) -> Result<Copies> {
        self.list("v1/copies", after)
    }

    fn list<T: DeserializeOwned>(&self, path: &str, after: Option<&str>) -> Result<T> {
        let path = after.map_or_else(|| path.to_owned(), |after| format!("{path}?after={after}"));
        let mut answer = self.get(&path, CHANGES_MAX)?;
        let body = answer.body_mut().with_config().limit(CHANGES_BYTES_MAX).reader();
        serde_json::from_reader(std::io::BufReader::new(body))
            .with_context(|| format!("cannot parse the answer to {path}"))
    }

    /// Makes a site due at the leading syncer.
    pub fn request(&self, site: &SiteKey) -> Result<()> {
        let address = format!("{}/v1/requests/{site}", self.server());
        let request = self.agent.post(&address).header(AUTHORIZATION, self.bearer()?);
        let request = request.config().timeout_global(Some(REQUEST_MAX)).build();
        request.send_empty().map(drop).with_context(|| format!("cannot post {address}"))
    }

    /// Transfers a revision into a file.
    pub fn receive(&self, transfer: &Transfer, file: &mut File) -> Result<()> {
        let mut answer = self.get(&format!("v1/revisions/{}", transfer.revision), PACK_MAX)?;
        let mut body = answer.body_mut().with_config().limit(transfer.bytes + 1).reader();
        fill(file, transfer, &mut body)
    }

    /// Transfers a revision into the store.
    pub fn fetch(&self, transfer: &Transfer, store: &Store) -> Result<()> {
        let mut answer = self.get(&format!("v1/revisions/{}", transfer.revision), PACK_MAX)?;
        let mut body = answer.body_mut().with_config().limit(transfer.bytes + 1).reader();
        store.add(transfer, &mut body)
    }

    /// Asks the syncer whose turn it is. After a failure it is the next one's turn.
    fn get(&self, path: &str, time: Duration) -> Result<ureq::http::Response<ureq::Body>> {
        let turn = self.turn.load(Ordering::Relaxed);
        let address = format!("{}/{path}", self.server());
        let request = self.agent.get(&address).header(AUTHORIZATION, self.bearer()?);
        let request = request.config().timeout_global(Some(time)).build();
        request.call().with_context(|| format!("cannot get {address}")).inspect_err(|_| {
            // Of several failures at a time, one counts.
            let next = turn.wrapping_add(1);
            let order = Ordering::Relaxed;
            let _ = self.turn.compare_exchange(turn, next, order, order);
        })
    }

    fn server(&self) -> &str {
        let turn = self.turn.load(Ordering::Relaxed).checked_rem(self.servers.len());
        turn.and_then(|turn| self.servers.get(turn)).map_or("", String::as_str)
    }

    fn bearer(&self) -> Result<String> {
        let token = fs::read_to_string(&self.token)
            .with_context(|| format!("cannot read the token {}", self.token.display()))?;
        // The last line is the newest token, so that an old one can be accepted for a while.
        let Some(token) = token.lines().rev().find(|line| !line.trim().is_empty()) else {
            bail!("the file {} has no token", self.token.display());
        };
        Ok(format!("Bearer {}", token.trim()))
    }
}
