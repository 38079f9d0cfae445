//! Requests to the syncer's HTTP API.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ureq::Agent;
use ureq::http::header::AUTHORIZATION;

use crate::replica::plan::Transfer;
use crate::replica::store::Store;
use crate::table::Changes;

/// The time to connect, and for the head of an answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The time for an answer about changes. The syncer holds a request for up to 30 s.
const CHANGES_MAX: Duration = Duration::from_secs(45);

/// The time for a pack, so that a syncer that hangs does not block a replica.
const PACK_MAX: Duration = Duration::from_mins(5);

/// The most bytes of an answer about changes: 100,000 sites have about 40 MB.
const CHANGES_BYTES_MAX: u64 = 256 << 20;

/// A client of the syncer.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    /// The beginning of all addresses, without a slash at the end.
    server: String,
    /// A file with the token. It is read for each request, so that the token can be replaced.
    token: PathBuf,
}

impl Client {
    /// Makes a client of the server at an address such as `http://syncer.pages.svc.cluster.local:8081`.
    #[must_use]
    pub fn new(server: &str, token: PathBuf) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { agent: config.into(), server: server.trim_end_matches('/').to_owned(), token }
    }

    /// Returns the changes after a generation, as soon as there are some; without a generation, all
    /// sites.
    pub fn changes(&self, after: Option<&str>) -> Result<Changes> {
        let mut address = format!("{}/v1/sites", self.server);
        if let Some(after) = after {
            address = format!("{address}?after={after}");
        }
        let mut answer = self.get(&address, CHANGES_MAX)?;
        let body = answer.body_mut().with_config().limit(CHANGES_BYTES_MAX).reader();
        serde_json::from_reader(std::io::BufReader::new(body))
            .with_context(|| format!("cannot parse the answer of {address}"))
    }

    /// Transfers a revision into the store.
    pub fn fetch(&self, transfer: &Transfer, store: &Store) -> Result<()> {
        let address = format!("{}/v1/revisions/{}", self.server, transfer.revision);
        let mut answer = self.get(&address, PACK_MAX)?;
        let limit = transfer.bytes + 1;
        let mut body = answer.body_mut().with_config().limit(limit).reader();
        store.add(transfer, &mut body)
    }

    fn get(&self, address: &str, time: Duration) -> Result<ureq::http::Response<ureq::Body>> {
        let token = fs::read_to_string(&self.token)
            .with_context(|| format!("cannot read the token {}", self.token.display()))?;
        // The last line is the newest token, so that an old one can be accepted for a while.
        let Some(token) = token.lines().rev().find(|line| !line.trim().is_empty()) else {
            bail!("the file {} has no token", self.token.display());
        };
        let request =
            self.agent.get(address).header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        let request = request.config().timeout_global(Some(time)).build();
        request.call().with_context(|| format!("cannot get {address}"))
    }
}
