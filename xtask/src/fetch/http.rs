//! One GET into one file, whose size and sha256 are checked as the bytes come; and a check whether
//! a file exists.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, anyhow};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

use super::resolve::Remembering;
use crate::digest::{Digest, Hasher};

/// The longest time for a name lookup or a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// The longest silence of a server.
const SILENCE: Duration = Duration::from_secs(20);

const BLOCK: usize = 64 * 1024;

/// Makes requests, and keeps connections open between them.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Agent,
    https: Agent,
}

/// The expected size and digest of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) size: u64,
    pub(super) sha256: Digest,
}

/// The reason for a failed download.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server does not have the file.
    Gone(Error),
    /// The server sends something else, or refuses the file.
    Refused(Error),
    /// The network or the server failed; a retry may work.
    Transient(Error),
    /// This host failed: the disk is full, or the work was cancelled.
    Local(Error),
}

impl Client {
    /// Returns a client that honours `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, and
    /// trusts the host's certificate authorities.
    pub(super) fn new() -> Self {
        let named = |variable: &str| {
            let names = [variable.to_owned(), variable.to_ascii_uppercase()];
            names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
        };
        let proxy =
            |variable| (named(variable) || named("all_proxy")).then(Proxy::try_from_env).flatten();
        Self { http: agent(proxy("http_proxy")), https: agent(proxy("https_proxy")) }
    }

    /// Returns a client that ignores the proxies of the environment.
    #[cfg(test)]
    pub(super) fn direct() -> Self {
        Self { http: agent(None), https: agent(None) }
    }

    /// Returns true if the server has the file, without requesting its body.
    pub(super) fn has(&self, url: &str) -> anyhow::Result<bool> {
        match self.of(url).head(url).call().map_err(|error| classify(url, &error)) {
            Ok(_) => Ok(true),
            Err(Failure::Gone(_)) => Ok(false),
            Err(Failure::Refused(error) | Failure::Transient(error) | Failure::Local(error)) => {
                Err(error)
            }
        }
    }

    fn of(&self, url: &str) -> &Agent {
        if url.starts_with("https:") { &self.https } else { &self.http }
    }

    /// Writes the body to `path`. `came` gets the length of each block, and can stop the download
    /// with an error.
    pub(super) fn get(
        &self,
        url: &str,
        expected: Expected,
        path: &Path,
        came: &mut dyn FnMut(u64) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let mut response = self.of(url).get(url).call().map_err(|error| classify(url, &error))?;
        let length = response
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(length) = length {
            check_size(url, length, expected.size)?;
        }
        receive(url, &mut response.body_mut().as_reader(), expected, path, came)
    }
}

fn agent(proxy: Option<Proxy>) -> Agent {
    // The host's own list has the authority with which a company's proxy signs.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(true)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    Agent::with_parts(config.build(), DefaultConnector::default(), Remembering::default())
}

fn receive(
    url: &str,
    body: &mut dyn Read,
    expected: Expected,
    path: &Path,
    came: &mut dyn FnMut(u64) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let local = |result: std::io::Result<()>| {
        result.with_context(|| format!("cannot write {}", path.display())).map_err(Failure::Local)
    };
    let mut file = File::create(path)
        .with_context(|| format!("cannot create {}", path.display()))
        .map_err(Failure::Local)?;
    let (mut hasher, mut size, mut block) = (Hasher::default(), 0, vec![0; BLOCK]);
    loop {
        let read = match body.read(&mut block) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::Transient(
                    anyhow!(error).context(format!("{url}: was cut off after {size} bytes")),
                ));
            }
        };
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > expected.size {
            return check_size(url, size, expected.size);
        }
        hasher.update(&block[..read]);
        local(file.write_all(&block[..read]))?;
        came(read as u64).map_err(Failure::Local)?;
    }
    if size < expected.size {
        return Err(Failure::Transient(anyhow!(
            "{url}: was cut off after {size} of {} bytes",
            expected.size
        )));
    }
    let found = hasher.finish();
    if found != expected.sha256 {
        let sha256 = expected.sha256;
        return Err(Failure::Refused(anyhow!("{url}: its sha256 is {found}, expected {sha256}")));
    }
    Ok(())
}

fn check_size(url: &str, size: u64, expected: u64) -> Result<(), Failure> {
    if size == expected {
        return Ok(());
    }
    Err(Failure::Refused(anyhow!("{url}: it has {size} bytes or more, expected {expected}")))
}

fn classify(url: &str, error: &ureq::Error) -> Failure {
    let text = match error {
        ureq::Error::StatusCode(status) => format!("{url}: the server answered {status}"),
        ureq::Error::HostNotFound => format!("{url}: the host's name cannot be resolved"),
        error => format!("{url}: {error}"),
    };
    match error {
        ureq::Error::StatusCode(404 | 410) => Failure::Gone(anyhow!(text)),
        ureq::Error::StatusCode(408 | 425 | 429 | 500..)
        | ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_)
        | ureq::Error::BodyStalled
        | ureq::Error::ConnectProxyFailed(_) => Failure::Transient(anyhow!(text)),
        _ => Failure::Refused(anyhow!(text)),
    }
}
