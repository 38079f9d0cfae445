//! The membership in a cluster, seen through kubelet's log: lines for the console, and requests to
//! the supervisor. Pure; the time is an argument.
//!
//! kubelet's API and its events need the cluster, so a node that cannot join says why only in
//! kubelet's log. Its lines have the form that [`super::klog`] parses.

use std::time::{Duration, Instant};

use super::klog::{message, value};

/// The time after which a trouble that was not seen counts as over, so that it is reported again.
/// kubelet repeats its attempts at least once a minute.
const OVER: Duration = Duration::from_mins(5);

/// The time that a certificate, or the node's first address, may take before the console shows that it
/// is missing. A cluster that approves requests by itself takes less than a second; kubelet itself
/// starts the pod that obtains an address, so each boot begins without one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Errors of a node without a route: from the kernel, and from Go's resolver, which asks the node itself
/// if `resolv.conf` has no server.
const NO_NETWORK: [&str; 3] = ["network is unreachable", " on 127.0.0.1:53: ", " on [::1]:53: "];

/// Parts of the address of every request to an API server.
const API_PATHS: [&str; 3] = ["/api/v1/", "/apis/", "/api/v1?"];

/// The longest reason on the console, in bytes.
const REASON_MAX: usize = 600;

/// A request to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The Node object is gone. kubelet makes it only at its start.
    Register,
    /// kubelet does not start because of this drop-in's file, or of any if the name is empty.
    Refuse(String),
}

/// News.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct News {
    /// A line for the console.
    pub line: Option<String>,
    /// A request to the supervisor.
    pub request: Option<Request>,
}

/// The state of the membership, as far as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Authority,
    Clock,
    Token,
    NoNetwork,
    Unreachable,
    Unapproved,
    Denied,
    Deleted,
    Registered,
    Ready,
}

/// Reads kubelet's log.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<(Standing, Instant)>,
    /// The time since which the API server knows the node as anonymous.
    anonymous: Option<Instant>,
    /// The time since which the node has no network.
    offline: Option<Instant>,
    /// The last reason of a kubelet that did not start.
    reason: String,
}

impl Watch {
    /// Returns the news in a line, without the log file's prefix.
    pub fn read(&mut self, line: &[u8], now: Instant) -> News {
        let Some((text, fields)) = message(line) else { return News::default() };
        let error = value(fields, "err").unwrap_or_default();
        match text {
            "command failed" => self.failed(&error),
            "Successfully registered node" | "Node was previously registered" => {
                self.anonymous = None;
                self.stand(Standing::Registered, "", now)
            }
            "Fast updating node status as it just became ready" => {
                self.stand(Standing::Ready, "", now)
            }
            "Error updating node status, will retry" if is_deleted(&error) => {
                let news = self.stand(Standing::Deleted, "", now);
                News { request: news.line.is_some().then_some(Request::Register), ..news }
            }
            "Certificate request was not signed" if error.contains("denied") => {
                self.stand(Standing::Denied, &error, now)
            }
            "Certificate request was not signed" => self.stand(Standing::Unapproved, "", now),
            "Failed while requesting a signed certificate from the control plane"
                if error.contains("Unauthorized") =>
            {
                self.stand(Standing::Token, "", now)
            }
            _ => self.trouble(&error, now),
        }
    }

    /// Looks for the reasons that any request to the API server can fail for.
    fn trouble(&mut self, error: &str, now: Instant) -> News {
        let has = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
        let anonymous = has(&["User \"system:anonymous\"", "User \\\"system:anonymous\\\""]);
        // The log has the same causes for pulls of images and for probes.
        if !anonymous && !has(&API_PATHS) {
            return News::default();
        }
        if has(&["certificate signed by unknown authority", "certificate is not trusted"]) {
            return self.stand(Standing::Authority, "", now);
        }
        if has(&["certificate has expired or is not yet valid"]) {
            return self.stand(Standing::Clock, error, now);
        }
        if has(&["dial tcp"]) && has(&NO_NETWORK) {
            let since = *self.offline.get_or_insert(now);
            let late = now.duration_since(since) >= PATIENCE;
            return if late {
                self.stand(Standing::NoNetwork, error, now)
            } else {
                News::default()
            };
        }
        // A failed name and a refused connection both have the address of the attempt.
        if has(&["dial tcp", "TLS handshake timeout", "Client.Timeout exceeded", "no such host"]) {
            return self.stand(Standing::Unreachable, error, now);
        }
        if anonymous {
            let since = *self.anonymous.get_or_insert(now);
            if now.duration_since(since) >= PATIENCE && !self.is(&Standing::Token) {
                return self.stand(Standing::Unapproved, "", now);
            }
        }
        News::default()
    }

    fn is(&self, standing: &Standing) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| last == standing)
    }

    /// Returns the line of a new standing.
    fn stand(&mut self, standing: Standing, error: &str, now: Instant) -> News {
        let seen = self
            .last
            .as_ref()
            .filter(|(last, at)| *last == standing && now.duration_since(*at) < OVER);
        let line = seen.is_none().then(|| describe(&standing, error));
        if standing != Standing::NoNetwork {
            self.offline = None;
        }
        self.last = Some((standing, now));
        News { line, request: None }
    }

    /// Reports the reason of a kubelet that does not start, and names the drop-in that causes it.
    fn failed(&mut self, error: &str) -> News {
        let request = refused(error);
        let reason = cut(error);
        if reason == self.reason {
            return News { line: None, request };
        }
        reason.clone_into(&mut self.reason);
        News { line: Some(format!("kubelet does not start: {reason}")), request }
    }
}

fn describe(standing: &Standing, error: &str) -> String {
    let reason = last_cause(error);
    match standing {
        Standing::Authority => {
            "cluster: the API server's certificate is not of the authority in the credential; \
             compare `ca` in kiln.join with the cluster's ca.crt"
                .into()
        }
        Standing::Clock => format!(
            "cluster: a certificate is not valid at this node's time ({reason}); check the clock \
             of the node and the certificate of the API server"
        ),
        Standing::Token => {
            "cluster: the API server refuses the token, because it is unknown or expired; make \
             another one with `kubeadm token create`, and give it in kiln.join"
                .into()
        }
        Standing::NoNetwork => format!(
            "cluster: the node has no network: {reason}; check the cable and the DHCP server, kubelet \
             keeps trying"
        ),
        Standing::Unreachable => {
            format!("cluster: the API server does not answer: {reason}; kubelet keeps trying")
        }
        Standing::Unapproved => {
            "cluster: the node's request for a certificate waits for approval; see `kubectl get \
             csr`"
                .into()
        }
        Standing::Denied => {
            format!("cluster: the node's request for a certificate was refused: {reason}")
        }
        Standing::Deleted => {
            "cluster: the Node object was deleted; starting kubelet again to make it".into()
        }
        Standing::Registered => "cluster: the node is registered".into(),
        Standing::Ready => "cluster: the node is Ready".into(),
    }
}

/// True if the API server, and not kubelet's cache, has no Node object.
fn is_deleted(error: &str) -> bool {
    error.contains(": nodes \"") && error.ends_with("\" not found")
}

/// Returns the drop-in that kubelet refuses. It names a file that it cannot parse; a value that is
/// invalid after merging can be of any.
fn refused(error: &str) -> Option<Request> {
    let file = "failed to load kubelet dropin file, path: ";
    if let Some((_, rest)) = error.split_once(file) {
        let path = rest.split(',').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        return Some(Request::Refuse(name.into()));
    }
    let invalid = [
        "failed to merge kubelet configs",
        "failed to validate kubelet configuration",
        "failed to set feature gates",
        "initialize logging",
    ];
    invalid.iter().any(|text| error.starts_with(text)).then(|| Request::Refuse(String::new()))
}

/// Returns the end of a chain of causes: `dial tcp …` and what follows, or the last part.
fn last_cause(error: &str) -> &str {
    let starts = ["dial tcp", "x509: "].iter().filter_map(|text| error.rfind(text)).max();
    cut(error.get(starts.unwrap_or(0)..).unwrap_or(error).trim_end_matches('"'))
}

/// Cuts a text at a bound, between characters.
fn cut(text: &str) -> &str {
    let text = text.split(", path: &{").next().unwrap_or(text);
    let mut end = text.len().min(REASON_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
