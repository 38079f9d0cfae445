//! The facts that the operator knows, kept up to date by watches. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::seen::Seen;
use crate::api::Group;
use crate::key::SiteKey;
use crate::ownership::claim::{Claim, SiteId};
use crate::ownership::rules::List;

/// The known sites and domains.
#[derive(Debug, Default)]
pub struct World {
    /// All sites of complete lists.
    pub sites: BTreeMap<SiteId, Seen>,
    /// The administrators' list of domains; nothing before it was looked for.
    pub list: Option<List>,
    listing: BTreeMap<Group, BTreeMap<SiteId, Seen>>,
    complete: BTreeSet<Group>,
}

impl World {
    /// True if all facts about these groups are known, so that a missing site is one that is gone.
    #[must_use]
    pub fn is_complete(&self, groups: &[Group]) -> bool {
        self.list.is_some() && groups.iter().all(|group| self.complete.contains(group))
    }

    /// Applies an event of a watch. A new list counts when it is complete. Returns true if something
    /// changed.
    pub fn apply(&mut self, group: Group, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Init => {
                self.listing.insert(group, BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                if let Some(seen) = Seen::new(group, &object) {
                    self.listing.entry(group).or_default().insert(seen.id.clone(), seen);
                }
                false
            }
            Event::InitDone => {
                let listed = self.listing.remove(&group).unwrap_or_default();
                self.sites.retain(|id, _| id.group != group);
                self.sites.extend(listed);
                self.complete.insert(group);
                true
            }
            Event::Apply(object) => self.insert(group, &object),
            Event::Delete(object) => {
                let (namespace, name) = (object.metadata.namespace, object.metadata.name);
                let key = SiteKey::new(&namespace.unwrap_or_default(), &name.unwrap_or_default());
                key.is_ok_and(|key| self.sites.remove(&SiteId { key, group }).is_some())
            }
        }
    }

    /// Forgets a group that the cluster does not serve any more.
    pub fn forget(&mut self, group: Group) {
        self.sites.retain(|id, _| id.group != group);
        self.complete.remove(&group);
    }

    fn insert(&mut self, group: Group, object: &DynamicObject) -> bool {
        let Some(seen) = Seen::new(group, object) else { return false };
        let before = self.sites.insert(seen.id.clone(), seen.clone());
        // The version alone changes nothing that decisions need.
        let before = before.map(|before| Seen { version: seen.version.clone(), ..before });
        before.as_ref() != Some(&seen)
    }

    /// Returns the claims of all sites that stay.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        self.sites.values().filter(|seen| !seen.is_leaving).map(Seen::claim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::World;
    use crate::api::Group;
    use crate::ownership::rules::List;
    use kube::api::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn object(name: &str, version: &str, domain: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "pages.kiln.local/v1beta1", "kind": "StaticSite",
            "metadata": { "name": name, "namespace": "team", "resourceVersion": version },
            "spec": { "domain": domain },
        }))
        .unwrap()
    }

    #[test]
    fn a_list_replaces_the_sites_of_its_group_when_it_is_complete() {
        let mut world = World::default();
        world.apply(Group::Kup6s, Event::Init);
        world.apply(Group::Kup6s, Event::InitApply(object("old", "1", "")));
        world.apply(Group::Kup6s, Event::InitDone);
        for names in [vec!["a", "b"], vec!["b"]] {
            world.apply(Group::Kiln, Event::Init);
            for name in names {
                world.apply(Group::Kiln, Event::InitApply(object(name, "1", "")));
            }
            assert!(world.apply(Group::Kiln, Event::InitDone));
        }
        let names: Vec<&str> = world.sites.keys().map(|id| id.key.name()).collect();
        assert_eq!(names, ["b", "old"]);
        assert!(!world.is_complete(&Group::ALL));
        world.list = Some(List::default());
        assert!(world.is_complete(&Group::ALL));
        world.forget(Group::Kup6s);
        assert!(world.is_complete(&[Group::Kiln]) && !world.is_complete(&Group::ALL));
    }

    #[test]
    fn a_new_version_alone_is_no_change() {
        let mut world = World::default();
        assert!(world.apply(Group::Kiln, Event::Apply(object("a", "1", "x.example"))));
        assert!(!world.apply(Group::Kiln, Event::Apply(object("a", "2", "x.example"))));
        assert!(world.apply(Group::Kiln, Event::Apply(object("a", "3", "y.example"))));
        assert!(world.apply(Group::Kiln, Event::Delete(object("a", "3", "y.example"))));
        assert!(!world.apply(Group::Kiln, Event::Delete(object("a", "3", "y.example"))));
    }
}
