//! A URL → the addresses to which the syncer may connect.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::runtime::Handle;

use crate::guard::policy::{Policy, Refusal};
use crate::guard::url::GitUrl;

/// The most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

/// Finds the addresses of a host name.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Returns all addresses, within a time.
    fn resolve(&self, host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>>;
}

/// The rules together with the resolver.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
}

/// The reason why there is no address.
#[derive(Debug)]
pub enum NoAddress {
    /// The rules forbid the host or all of its addresses.
    Refused(Refusal),
    /// The lookup failed.
    Lookup(io::Error),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lookup(error) => write!(f, "cannot look up the host: {error}"),
        }
    }
}

impl std::error::Error for NoAddress {}

impl Guard {
    /// Combines rules and a resolver.
    #[must_use]
    pub fn new(policy: Policy, resolver: Arc<dyn Resolve>) -> Self {
        Self { policy: Arc::new(policy), resolver }
    }

    /// Checks host and scheme, looks the host up, and returns the allowed ones among its addresses.
    /// The caller connects to these and does not look the host up again.
    pub fn addresses(&self, url: &GitUrl, timeout: Duration) -> Result<Vec<SocketAddr>, NoAddress> {
        self.policy.check_url(url).map_err(NoAddress::Refused)?;
        let found = match url.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.resolve(&url.host, timeout).map_err(NoAddress::Lookup)?,
        };
        let (allowed, refused): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|address| self.policy.allows(*address));
        match (&allowed[..], refused.first()) {
            ([], Some(address)) => {
                let (host, address) = (url.host.clone(), *address);
                tracing::warn!(%host, %address, "the address of a git host is internal; refused");
                Err(NoAddress::Refused(Refusal::Address { host, address }))
            }
            ([], None) => Err(NoAddress::Lookup(io::ErrorKind::NotFound.into())),
            _ => {
                let allowed = allowed.into_iter().take(ADDRESSES_MAX);
                Ok(allowed.map(|address| SocketAddr::new(address, url.port)).collect())
            }
        }
    }
}

/// The resolver of a pod: the name servers of `/etc/resolv.conf`, and `/etc/hosts`.
///
/// A static program has no working `getaddrinfo`, therefore this is a library of its own.
pub struct System {
    resolver: TokioResolver,
    runtime: Handle,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("System")
    }
}

impl System {
    /// Reads the configuration. Lookups run in a runtime, and callers wait in threads outside of it.
    pub fn new(runtime: &Handle) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        let resolver = TokioResolver::builder_tokio()?.build()?;
        Ok(Self { resolver, runtime: runtime.clone() })
    }
}

impl Resolve for System {
    fn resolve(&self, host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
        self.runtime.block_on(async {
            let lookup = tokio::time::timeout(timeout, self.resolver.lookup_ip(host)).await;
            let found = lookup.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            Ok(found.map_err(io::Error::other)?.iter().collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Guard, NoAddress, Resolve};
    use crate::guard::policy::{Policy, Refusal};
    use std::io;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    #[derive(Debug)]
    struct Fixed(Vec<IpAddr>);

    impl Resolve for Fixed {
        fn resolve(&self, _: &str, _: Duration) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    fn addresses(found: &[&str]) -> Result<Vec<String>, NoAddress> {
        let found = found.iter().map(|text| text.parse().unwrap()).collect();
        let policy = Policy { hosts: vec!["git.example".parse().unwrap()], ..Policy::default() };
        let guard = Guard::new(policy, Arc::new(Fixed(found)));
        let url = "https://git.example:444/a".parse().unwrap();
        let addresses = guard.addresses(&url, Duration::from_secs(1))?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_public_addresses_of_a_name_are_used() {
        assert_eq!(addresses(&["10.0.0.1", "1.1.1.1"]).unwrap(), ["1.1.1.1:444"]);
        let error = addresses(&["169.254.169.254", "::1"]).unwrap_err();
        assert!(matches!(&error, NoAddress::Refused(Refusal::Address { .. })));
        assert!(!error.to_string().contains("169.254"), "a tenant learns no address: {error}");
        assert!(matches!(addresses(&[]), Err(NoAddress::Lookup(_))));
    }
}
