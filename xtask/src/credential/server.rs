//! The address of an API server.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// The scheme; the API server speaks no other.
const SCHEME: &str = "https://";

/// The port that `kubeadm` uses.
const PORT: u16 = 6443;

/// `https://host:port`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    url: String,
}

impl Server {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        let (host, _) = split(self.url.trim_start_matches(SCHEME)).unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Splits `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        Some(port) => Some((host, Some(port))),
    }
}

fn is_host(text: &str) -> bool {
    if let Some(six) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        six.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        !text.is_empty() && text.len() <= 253 && text.bytes().all(known)
    }
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            bail!(
                "the server {text:?} does not begin with `{SCHEME}`; the form is {SCHEME}host:{PORT}"
            )
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let port = |port: Option<&str>| port.map_or(Ok(PORT), str::parse);
        match split(rest).map(|(host, number)| (host, port(number))) {
            Some((host, Ok(port))) if is_host(host) && port != 0 => {
                Ok(Self { url: format!("{SCHEME}{host}:{port}") })
            }
            _ => bail!("the server {text:?} is not an address; the form is {SCHEME}host:{PORT}"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn an_address_has_scheme_host_and_port() {
        for (text, expected, host) in [
            ("https://192.0.2.1:6443", "https://192.0.2.1:6443", "192.0.2.1"),
            ("https://api.example", "https://api.example:6443", "api.example"),
            ("https://api.example:443/", "https://api.example:443", "api.example"),
            ("https://[2001:db8::1]:6443", "https://[2001:db8::1]:6443", "2001:db8::1"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((server.as_str(), server.host()), (expected, host));
        }
    }

    #[test]
    fn another_form_is_an_error_that_shows_the_right_one() {
        for text in [
            "",
            "api.example:6443",
            "http://api.example:6443",
            "https://",
            "https://api.example:0",
            "https://api.example:65536",
            "https://api.example:6443/path",
            "https://a@api.example",
            "https://1::1",
            "https://[2001:db8::1",
            "https://[api.example]:1",
            "https://a b",
        ] {
            let error = text.parse::<Server>().unwrap_err().to_string();
            assert!(error.ends_with("the form is https://host:6443"), "{error}");
        }
    }
}
