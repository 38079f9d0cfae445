//! The kinds of objects that lead visitors to the server.

use kube::api::ApiResource;

/// A kind of object that the operator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A certificate of cert-manager.
    Certificate,
    /// Traefik's middleware that redirects to HTTPS.
    Middleware,
    /// A route of the Gateway API.
    HttpRoute,
    /// A route of Kubernetes' older API.
    Ingress,
    /// A route of Traefik.
    IngressRoute,
    /// The `ConfigMap` with the route file of Kiln's gateway.
    RouteFile,
}

impl Kind {
    /// All kinds, in the order in which objects are made: a route follows the things that it names.
    pub const ALL: [Self; 6] = [
        Self::Certificate,
        Self::Middleware,
        Self::HttpRoute,
        Self::Ingress,
        Self::IngressRoute,
        Self::RouteFile,
    ];

    /// Returns group, version, kind and plural.
    const fn names(self) -> [&'static str; 4] {
        match self {
            Self::Certificate => ["cert-manager.io", "v1", "Certificate", "certificates"],
            Self::Middleware => ["traefik.io", "v1alpha1", "Middleware", "middlewares"],
            Self::HttpRoute => ["gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"],
            Self::Ingress => ["networking.k8s.io", "v1", "Ingress", "ingresses"],
            Self::IngressRoute => ["traefik.io", "v1alpha1", "IngressRoute", "ingressroutes"],
            Self::RouteFile => ["", "v1", "ConfigMap", "configmaps"],
        }
    }

    /// Returns the API group; empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.names()[0]
    }

    /// Returns the plural, which is the resource in RBAC rules.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.names()[3]
    }

    /// Returns group and version.
    #[must_use]
    pub fn api_version(self) -> String {
        match self.names() {
            ["", version, ..] => version.to_owned(),
            [group, version, ..] => format!("{group}/{version}"),
        }
    }

    /// Returns the resource for a client's calls.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let [group, version, kind, plural] = self.names().map(str::to_owned);
        ApiResource { group, version, api_version: self.api_version(), kind, plural }
    }

    /// True if every cluster serves the kind.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::Ingress | Self::RouteFile)
    }

    /// Returns the name of the kind in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.names()[2]
    }
}
