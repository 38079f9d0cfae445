//! The settings of all routes.

/// The server that routes lead to, and the settings of the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The namespace of the server and of all routes.
    pub namespace: String,
    /// The Service of the server.
    pub service: String,
    /// The port of the Service.
    pub port: u16,
    /// The Gateway that routes of the Gateway API attach to.
    pub gateway: Option<Gateway>,
    /// The class of Ingresses.
    pub ingress_class: Option<String>,
    /// The issuer of certificates, a `ClusterIssuer` of cert-manager.
    pub issuer: Option<String>,
    /// The Secret with a certificate for `*.DOMAIN`, and DOMAIN.
    pub wildcard: Option<Wildcard>,
}

/// A Gateway of the Gateway API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// One of its listeners.
    pub section: Option<String>,
}

/// A certificate for all names that lie directly below a domain (RFC 6125, section 6.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wildcard {
    /// The domain.
    pub domain: String,
    /// The Secret, in the namespace of the server.
    pub secret: String,
}
