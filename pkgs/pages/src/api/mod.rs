//! The resource `StaticSite`, its two API groups, and the types of its fields.
//!
//! Both groups have the same kind, fields and status, so the code has one type for them, [`Site`], and
//! the group is a value, [`Group`].
//! `kubectl apply` needs a definition per group; [`crd`] makes both from the types.

use kube::api::{ApiResource, TypeMeta};
use kube::core::Object;

pub mod crd;
mod interval;
mod spec;
mod status;

pub use interval::{INTERVAL_MAX, INTERVAL_MIN, interval, lifetime};
pub use spec::{Previews, SecretReference, StaticSite, StaticSiteSpec};
pub use status::{Condition, ConditionStatus, Preview, REVISIONS_MAX, Revision, StaticSiteStatus};

/// A `StaticSite` of either group, as the API server stores it.
pub type Site = Object<StaticSiteSpec, StaticSiteStatus>;

/// The condition of the syncer: the branch's last commit is published.
pub const SYNCED: &str = "Synced";

/// The condition of the operator: the site has an address, and routes lead to the server.
pub const ROUTED: &str = "Routed";

/// The condition of the syncer about the previews of a site that wants some.
pub const PREVIEWED: &str = "Previewed";

/// The condition that summarises the others.
pub const READY: &str = "Ready";

/// The reason of `Synced` and `Ready` while a rollback holds a site.
pub const ROLLED_BACK: &str = "RolledBack";

/// The version of both groups that this program reads.
pub const VERSION: &str = "v1beta1";

/// The kind in both groups.
pub const KIND: &str = "StaticSite";

/// The plural in both groups.
pub const PLURAL: &str = "staticsites";

/// An API group with the kind `StaticSite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Our own, `pages.kiln.local`.
    Kiln,
    /// The group of kup6s-pages, `pages.kup6s.com`, whose manifests work unchanged.
    Kup6s,
}

impl Group {
    /// Both groups.
    pub const ALL: [Self; 2] = [Self::Kiln, Self::Kup6s];

    /// Returns the group's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kiln => "pages.kiln.local",
            Self::Kup6s => "pages.kup6s.com",
        }
    }

    /// Returns group and version, such as `pages.kiln.local/v1beta1`.
    #[must_use]
    pub fn api_version(self) -> String {
        format!("{}/{VERSION}", self.name())
    }

    /// Returns the resource for a client's calls.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        ApiResource {
            group: self.name().to_owned(),
            version: VERSION.to_owned(),
            api_version: self.api_version(),
            kind: KIND.to_owned(),
            plural: PLURAL.to_owned(),
        }
    }

    /// Returns the type fields of an object.
    #[must_use]
    pub fn types(self) -> TypeMeta {
        TypeMeta { api_version: self.api_version(), kind: KIND.to_owned() }
    }
}

#[cfg(test)]
mod tests;
