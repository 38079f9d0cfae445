//! The wish of a site for a name.

use crate::api::Group;
use crate::key::SiteKey;
use crate::previews::reference::Reference;
use crate::table::Address;

/// A site of one of the groups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId {
    /// Namespace and name.
    pub key: SiteKey,
    /// The API group.
    pub group: Group,
}

/// The wish of a site for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The site.
    pub id: SiteId,
    /// The object's uid.
    pub uid: String,
    /// The time of creation in seconds since 1970.
    pub created: i64,
    /// The field `domain`.
    pub domain: Option<String>,
    /// The field `pathPrefix`.
    pub prefix: Option<String>,
    /// The address in the status, which only the operator writes.
    pub held: Option<Address>,
    /// The references of the previews that the syncer has published.
    pub previews: Vec<Reference>,
}

impl Claim {
    /// Returns namespace and name.
    #[must_use]
    pub const fn key(&self) -> &SiteKey {
        &self.id.key
    }
}
