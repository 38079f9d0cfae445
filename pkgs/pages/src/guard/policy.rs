//! The rules of an administrator: hosts, schemes and networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::guard::address::is_public;
use crate::guard::url::{GitUrl, Scheme};

/// A host, or all hosts below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this name or address.
    Exact(String),
    /// Every name that ends with this text, which begins with a dot.
    Below(String),
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            // An address ends with no domain, because the last label of a domain is not a number.
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        let url: Result<GitUrl, _> = format!("https://{host}/x").parse();
        let url = url.ok().filter(|url| url.port == 443 && url.user.is_none());
        let url = url.filter(|_| !name.contains(['@', '/']));
        let host =
            url.ok_or_else(|| format!("{text:?} is not a host name, an address or *.DOMAIN"))?;
        let is_address = host.host.parse::<IpAddr>().is_ok();
        if !text.starts_with("*.") {
            Ok(Self::Exact(host.host))
        } else if is_address {
            Err(format!("{text:?} is not a domain"))
        } else {
            Ok(Self::Below(format!(".{}", host.host)))
        }
    }
}

/// The rules. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The hosts that may be contacted.
    pub hosts: Vec<HostPattern>,
    /// The hosts among them that may be contacted without encryption.
    pub plain: Vec<HostPattern>,
    /// Networks that are allowed although they are not public, for a forge inside.
    pub networks: Vec<IpNet>,
}

/// The reason why a server is not contacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No rule allows the host.
    Host(String),
    /// The host may only be contacted with encryption.
    Plain(String),
    /// The address of a host is not public and in no allowed network.
    Address {
        /// The host.
        host: String,
        /// Its address.
        address: IpAddr,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(
                f,
                "the administrator has not allowed the git host {host}; it must be named by --git-host"
            ),
            Self::Plain(host) => {
                write!(f, "the git host {host} must be used with https:// or ssh://")
            }
            // The address itself is no part of the text, because tenants read it and would learn the
            // addresses of internal names.
            Self::Address { host, .. } => write!(
                f,
                "the git host {host} has an internal address, and no --git-network allows it"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl Policy {
    /// Checks host and scheme of a URL.
    pub fn check_url(&self, url: &GitUrl) -> Result<(), Refusal> {
        let is_in = |list: &[HostPattern]| list.iter().any(|pattern| pattern.matches(&url.host));
        if !is_in(&self.hosts) {
            return Err(Refusal::Host(url.host.clone()));
        }
        if url.scheme == Scheme::Http && !is_in(&self.plain) {
            return Err(Refusal::Plain(url.host.clone()));
        }
        Ok(())
    }

    /// True if the syncer may connect to an address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPattern, Policy, Refusal};

    fn policy() -> Policy {
        Policy {
            hosts: ["git.example.org", "*.forge.example", "192.0.2.7"]
                .map(|text| text.parse().unwrap())
                .into(),
            plain: vec!["a.forge.example".parse().unwrap()],
            networks: vec!["10.0.0.0/24".parse().unwrap()],
        }
    }

    fn check(url: &str, expected: &Result<(), Refusal>) {
        assert_eq!(policy().check_url(&url.parse().unwrap()), *expected, "{url}");
    }

    #[test]
    fn only_listed_hosts_and_schemes_are_allowed() {
        let host = |text: &str| Err(Refusal::Host(text.to_owned()));
        check("https://git.example.org/a", &Ok(()));
        check("git@GIT.example.org:a", &Ok(()));
        check("https://b.a.forge.example/a", &Ok(()));
        check("https://192.0.2.7/a", &Ok(()));
        check("https://forge.example/a", &host("forge.example"));
        check("https://evilforge.example/a", &host("evilforge.example"));
        check("https://git.example.org.evil.example/a", &host("git.example.org.evil.example"));
        check("https://192.0.2.8/a", &host("192.0.2.8"));
        check("http://git.example.org/a", &Err(Refusal::Plain("git.example.org".to_owned())));
        check("http://a.forge.example/a", &Ok(()));
        let nothing = Policy::default().check_url(&"https://a/b".parse().unwrap());
        assert_eq!(nothing, host("a"));
    }

    #[test]
    fn an_allowed_network_does_not_allow_its_mapped_addresses() {
        let allows = |text: &str| policy().allows(text.parse().unwrap());
        assert!(allows("10.0.0.200") && allows("1.1.1.1"));
        assert!(!allows("10.0.1.1") && !allows("::ffff:10.0.0.200") && !allows("127.0.0.1"));
    }

    #[test]
    fn patterns_are_names_addresses_and_domains() {
        assert_eq!("*.A.b".parse(), Ok(HostPattern::Below(".a.b".to_owned())));
        assert_eq!("::1".parse(), Ok(HostPattern::Exact("::1".to_owned())));
        for bad in ["", "*", "*.", "a/b", "a b", "user@a", "*.10.0.0.1", "a:80", "**.a"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
