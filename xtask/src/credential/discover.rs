//! Fetching `cluster-info`, in `kubeadm`'s order: first from a server that has proven nothing, then,
//! when token and pin have proven the authority in it, again from a server with a certificate of that
//! authority. Both answers must be equal.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::info::{Cluster, INFO_BYTES_MAX, Info};
use super::pin::Pin;
use super::server::Server;
use super::token::Token;
use crate::process;

/// The path of the `ConfigMap`, which anyone may read.
const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// The longest time for one request.
const REQUEST: Duration = Duration::from_secs(15);

/// Attempts, and the time between them, until the cluster has signed for a token that was just made.
const SIGNING: Retry = Retry { attempts: 5, wait: Duration::from_secs(2) };

/// The trust in the first server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The authority's key is one of these.
    Pins(Vec<Pin>),
    /// Any server that knows the token may name the authority.
    TokenOnly,
}

/// The beginning of the standard library's error of a failed lookup, which has no kind of its own.
const NO_ADDRESS: &str = "failed to lookup address information";

#[derive(Debug, Clone, Copy)]
struct Retry {
    attempts: u32,
    wait: Duration,
}

/// Returns the cluster that the server belongs to.
pub fn discover(server: &Server, token: &Token, trust: &Trust) -> Result<Cluster> {
    with_retry(server, token, trust, SIGNING)
}

fn with_retry(server: &Server, token: &Token, trust: &Trust, retry: Retry) -> Result<Cluster> {
    let unverified = TlsConfig::builder().disable_verification(true).build();
    let first = signed(server, token, &unverified, retry)?;
    let cluster = first.verify(token).with_context(|| format!("cannot trust {server}"))?;
    let Trust::Pins(pins) = trust else { return Ok(cluster) };
    cluster.authorities.check(pins).with_context(|| format!("cannot trust {server}"))?;
    let der = cluster.authorities.der()?;
    let roots: Vec<_> = der.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let verified = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
    let second = fetch(server, &verified)?;
    ensure!(
        second == first,
        "cannot trust {server}: `cluster-info` changed between two requests; if a token was made or \
         expired meanwhile, try again"
    );
    Ok(cluster)
}

/// Fetches until the cluster has signed for the token; returns the last answer in any case.
fn signed(server: &Server, token: &Token, tls: &TlsConfig, retry: Retry) -> Result<Info> {
    let mut info = fetch(server, tls)?;
    for _ in 1..retry.attempts {
        if info.is_signed_for(token) {
            break;
        }
        sleep(retry.wait);
        process::check_interrupt()?;
        info = fetch(server, tls)?;
    }
    Ok(info)
}

fn fetch(server: &Server, tls: &TlsConfig) -> Result<Info> {
    let url = format!("{server}{PATH}");
    let is_here = server.host() == "localhost"
        || server.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let proxy = if is_here { None } else { Proxy::try_from_env() };
    let through = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
    let config = Agent::config_builder()
        .tls_config(tls.clone())
        .proxy(proxy)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(REQUEST));
    let call = Agent::new_with_config(config.build()).get(&url).call();
    let mut response = call.map_err(|error| explain(server, through.as_deref(), error))?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(INFO_BYTES_MAX).read_to_vec();
    let body = body.map_err(|error| explain(server, through.as_deref(), error))?;
    match status {
        200 => Info::parse(&body).with_context(|| format!("cannot read {url}")),
        401 | 403 => bail!(
            "{server} does not show `cluster-info` to strangers (status {status}); pass --ca FILE \
             instead of --ca-hash, which needs no discovery"
        ),
        404 => bail!(
            "{server} has no ConfigMap `cluster-info` in the namespace `kube-public`; if it is an API \
             server, pass --ca FILE instead of --ca-hash, which needs no discovery"
        ),
        status => bail!("{server} answered with the status {status}, which is not an API server's"),
    }
}

/// Says what to do about a failed request.
fn explain(server: &Server, proxy: Option<&str>, error: ureq::Error) -> Error {
    let host = server.host();
    let through = proxy.map_or_else(String::new, |proxy| {
        format!(
            " through the proxy {proxy}; if nodes are reached directly, add {host} to `no_proxy`"
        )
    });
    match error {
        ureq::Error::HostNotFound => unresolved(host),
        ureq::Error::Timeout(_) => anyhow!(
            "{server} does not answer within {} s{through}; check address, port and firewall",
            REQUEST.as_secs()
        ),
        ureq::Error::ConnectProxyFailed(text) => {
            anyhow!("cannot reach {server}{through}: {text}")
        }
        ureq::Error::BodyExceedsLimit(_) => {
            anyhow!("{server} sends more than {INFO_BYTES_MAX} bytes, so it is not an API server")
        }
        ureq::Error::Io(error) => match tls_fault(&error) {
            Some(fault) => explain_tls(server, fault),
            None if error.to_string().starts_with(NO_ADDRESS) => unresolved(host),
            None if is_closed(&error) => anyhow!(
                "{server} closes the connection before TLS begins, so it is not an API server; check the \
                 port"
            ),
            None => anyhow!(
                "cannot connect to {server}{through}: {error}; check address, port and firewall"
            ),
        },
        ureq::Error::Rustls(fault) => explain_tls(server, &fault),
        error => anyhow!("cannot read from {server}{through}: {error}"),
    }
}

/// True if the server closed the connection; whether it read the request first decides the kind.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn unresolved(host: &str) -> Error {
    anyhow!(
        "cannot resolve the name {host}; check --server, and that this host uses the cluster's DNS"
    )
}

fn tls_fault(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn explain_tls(server: &Server, fault: &rustls::Error) -> Error {
    use rustls::CertificateError as Bad;
    let host = server.host();
    match fault {
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => anyhow!(
            "the certificate of {server} is not for {host}; use a name or address that is in it (the \
             API server's --tls-cert-file)"
        ),
        rustls::Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => anyhow!(
            "the certificate of {server} is not valid today; check this host's clock, then the \
             certificate ({fault})"
        ),
        rustls::Error::InvalidCertificate(_) => anyhow!(
            "the certificate of {server} is not signed by the cluster's authority: {fault}; someone may be \
             intercepting the connection, or a load balancer ends TLS in front of the API server"
        ),
        rustls::Error::InvalidMessage(_) => {
            anyhow!("{server} does not speak TLS, so it is not an API server; check the port")
        }
        fault => anyhow!("cannot talk TLS with {server}: {fault}"),
    }
}

#[cfg(test)]
mod tests;
