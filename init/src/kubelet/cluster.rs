//! A cluster, as far as kubelet must know it.

use std::net::IpAddr;

use crate::machine::pem;

/// The address of the cluster's DNS that kubeadm and most installers use.
const DNS_DEFAULT: &str = "10.96.0.10";

/// The cluster's domain that nearly every cluster uses.
const DOMAIN_DEFAULT: &str = "cluster.local";

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The API server, `https://api.example:6443`.
    pub server: String,
    /// The cluster's certificate authorities in PEM, if they are known.
    pub ca: Option<String>,
    /// The pods' name servers.
    pub dns: Vec<IpAddr>,
    /// The domain of the cluster's services.
    pub domain: String,
}

impl Cluster {
    /// Returns a cluster with the usual DNS.
    #[must_use]
    pub fn new(server: String, ca: Option<String>) -> Self {
        let dns = DNS_DEFAULT.parse().into_iter().collect();
        Self { server, ca, dns, domain: DOMAIN_DEFAULT.into() }
    }

    /// True if both are the same cluster: one server, and one authority if both are known.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let known = |ca: &Option<String>| ca.as_deref().and_then(|ca| pem::certificates(ca).ok());
        self.server == other.server && known(&self.ca) == known(&other.ca)
    }
}
