//! A `StaticSite` as the operator remembers it.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, ObjectMeta};
use serde::Deserialize as _;

use crate::api::{Group, StaticSiteStatus};
use crate::key::SiteKey;
use crate::ownership::claim::{Claim, SiteId};
use crate::previews::reference::Reference;

/// The finalizer that keeps a site until its routes are gone.
pub const FINALIZER: &str = "pages.kiln.local/routes";

/// The finalizer of kup6s-pages, which sites that it has made still have.
const OLD_FINALIZER: &str = "pages.kup6s.com/finalizer";

/// A site, reduced to what decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The site.
    pub id: SiteId,
    /// The object's uid.
    pub uid: String,
    /// The version of the object.
    pub version: String,
    /// The time of creation in seconds since 1970.
    pub created: i64,
    /// The generation of the specification.
    pub generation: Option<i64>,
    /// True if the object is being deleted.
    pub is_leaving: bool,
    /// The finalizers.
    pub finalizers: Vec<String>,
    /// The field `domain`.
    pub domain: Option<String>,
    /// The field `pathPrefix`.
    pub prefix: Option<String>,
    /// True if the specification wants previews.
    pub wants_previews: bool,
    /// The state.
    pub status: StaticSiteStatus,
}

impl Seen {
    /// Reduces an object. Returns nothing if its name is not that of a site.
    ///
    /// The fields are read one by one, because an object of an earlier version may have others.
    #[must_use]
    pub fn new(group: Group, object: &DynamicObject) -> Option<Self> {
        let ObjectMeta { name, namespace, .. } = &object.metadata;
        let key = SiteKey::new(namespace.as_deref()?, name.as_deref()?).ok()?;
        let text = |field: &str| object.data["spec"][field].as_str().map(str::to_owned);
        let created = object.metadata.creation_timestamp.as_ref();
        Some(Self {
            id: SiteId { key, group },
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            created: created.map_or(i64::MAX, |time| time.0.as_second()),
            generation: object.metadata.generation,
            is_leaving: object.metadata.deletion_timestamp.is_some(),
            finalizers: object.finalizers().to_vec(),
            domain: text("domain"),
            prefix: text("pathPrefix"),
            wants_previews: group == Group::Kiln && object.data["spec"]["previews"].is_object(),
            status: StaticSiteStatus::deserialize(&object.data["status"]).unwrap_or_default(),
        })
    }

    /// Returns the site's claim to a name.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim {
            id: self.id.clone(),
            uid: self.uid.clone(),
            created: self.created,
            domain: self.domain.clone(),
            prefix: self.prefix.clone(),
            held: self.status.address.clone(),
            previews: self.previews(),
        }
    }

    /// Returns the references of the previews that the syncer has published.
    fn previews(&self) -> Vec<Reference> {
        let published = self.status.previews.iter().filter(|preview| preview.commit.is_some());
        let references = published.filter_map(|preview| preview.reference.parse().ok());
        references.filter(|_| self.wants_previews).collect()
    }

    /// True if the site has our finalizer.
    #[must_use]
    pub fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|name| name == FINALIZER)
    }

    /// Returns the finalizers that the site should have; nothing if it has them.
    ///
    /// A site that leaves keeps ours until its routes are gone. That of kup6s-pages goes with ours,
    /// because nothing else would remove it.
    #[must_use]
    pub fn finalizers(&self, has_routes: bool) -> Option<Vec<String>> {
        let is_ours = |name: &String| [FINALIZER, OLD_FINALIZER].contains(&name.as_str());
        let has_ours = self.has_finalizer();
        if !self.is_leaving {
            let mut wanted = self.finalizers.clone();
            wanted.push(FINALIZER.to_owned());
            return (has_routes && !has_ours).then_some(wanted);
        }
        let wanted = self.finalizers.iter().filter(|name| !is_ours(name)).cloned();
        (!has_routes && self.finalizers.iter().any(is_ours)).then(|| wanted.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{FINALIZER, OLD_FINALIZER, Seen};
    use crate::api::Group;
    use kube::api::DynamicObject;
    use serde_json::json;

    /// Returns a site of an earlier version of kup6s-pages.
    fn old() -> Seen {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "pages.kup6s.com/v1beta1", "kind": "StaticSite",
            "metadata": { "name": "a", "namespace": "team", "creationTimestamp": "1970-01-01T00:00:09Z" },
            "spec": { "pathPrefix": "/a" },
            "status": { "phase": "Ready", "conditions": [{ "type": "Ready" }] },
        }))
        .unwrap();
        Seen::new(Group::Kup6s, &object).unwrap()
    }

    #[test]
    fn an_object_with_a_strange_status_is_still_a_site() {
        let seen = old();
        assert_eq!((seen.created, seen.prefix.as_deref(), seen.domain), (9, Some("/a"), None));
        assert!(seen.status.conditions.is_empty());
    }

    #[test]
    fn a_finalizer_is_there_as_long_as_routes_are() {
        let mut site = old();
        assert_eq!(site.finalizers(true), Some(vec![FINALIZER.to_owned()]));
        assert_eq!(site.finalizers(false), None);
        site.finalizers = ["other", FINALIZER, OLD_FINALIZER].map(str::to_owned).to_vec();
        assert_eq!(site.finalizers(true), None);
        site.is_leaving = true;
        assert_eq!(site.finalizers(true), None);
        assert_eq!(site.finalizers(false), Some(vec!["other".to_owned()]));
        site.finalizers.truncate(1);
        assert_eq!(site.finalizers(false), None);
    }
}
