//! The facts that the operator knows, kept up to date by watches. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::seen::Seen;
use crate::api::{Group, StaticSiteStatus};
use crate::key::SiteKey;
use crate::ownership::claim::{Claim, SiteId};
use crate::ownership::rules::List;

/// The consequence of a change for the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Decisions do not depend on it.
    Nothing,
    /// Only the status of the sites in [`World::stirred`] may have to be written.
    Status,
    /// Everything must be planned again.
    Plan,
}

/// The known sites and domains.
#[derive(Debug, Default)]
pub struct World {
    /// All sites of complete lists.
    pub sites: BTreeMap<SiteId, Seen>,
    /// The administrators' list of domains; nothing before it was looked for.
    pub list: Option<List>,
    /// The sites that have changed since the last pass.
    pub stirred: BTreeSet<SiteId>,
    listing: BTreeMap<Group, BTreeMap<SiteId, Seen>>,
    complete: BTreeSet<Group>,
}

impl World {
    /// True if all facts about these groups are known, so that a missing site is one that is gone.
    #[must_use]
    pub fn is_complete(&self, groups: &[Group]) -> bool {
        self.list.is_some() && groups.iter().all(|group| self.complete.contains(group))
    }

    /// Applies an event of a watch. A new list counts when it is complete.
    pub fn apply(&mut self, group: Group, event: Event<DynamicObject>) -> Effect {
        match event {
            Event::Init => {
                self.listing.insert(group, BTreeMap::new());
                Effect::Nothing
            }
            Event::InitApply(object) => {
                if let Some(seen) = Seen::new(group, &object) {
                    self.listing.entry(group).or_default().insert(seen.id.clone(), seen);
                }
                Effect::Nothing
            }
            Event::InitDone => {
                let listed = self.listing.remove(&group).unwrap_or_default();
                self.sites.retain(|id, _| id.group != group);
                self.stirred.extend(listed.keys().cloned());
                self.sites.extend(listed);
                self.complete.insert(group);
                Effect::Plan
            }
            Event::Apply(object) => self.insert(group, &object),
            Event::Delete(object) => {
                let (namespace, name) = (object.metadata.namespace, object.metadata.name);
                let key = SiteKey::new(&namespace.unwrap_or_default(), &name.unwrap_or_default());
                let is_gone =
                    key.is_ok_and(|key| self.sites.remove(&SiteId { key, group }).is_some());
                if is_gone { Effect::Plan } else { Effect::Nothing }
            }
        }
    }

    /// Forgets a group that the cluster does not serve any more.
    pub fn forget(&mut self, group: Group) {
        self.sites.retain(|id, _| id.group != group);
        self.complete.remove(&group);
    }

    fn insert(&mut self, group: Group, object: &DynamicObject) -> Effect {
        let Some(seen) = Seen::new(group, object) else { return Effect::Nothing };
        let Some(before) = self.sites.insert(seen.id.clone(), seen.clone()) else {
            self.stirred.insert(seen.id);
            return Effect::Plan;
        };
        // The version alone changes nothing that decisions need.
        let before = Seen { version: seen.version.clone(), ..before };
        if before == seen {
            return Effect::Nothing;
        }
        self.stirred.insert(seen.id.clone());
        // Address and previews of the status are a part of the claim; nothing else of the status is.
        let StaticSiteStatus { address, previews, .. } = before.status.clone();
        let status = StaticSiteStatus { address, previews, ..seen.status.clone() };
        if (Seen { status, generation: seen.generation, ..before }) == seen {
            return Effect::Status;
        }
        Effect::Plan
    }

    /// Returns the claims of all sites that stay.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        self.sites.values().filter(|seen| !seen.is_leaving).map(Seen::claim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, World};
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
            assert_eq!(world.apply(Group::Kiln, Event::InitDone), Effect::Plan);
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
        let mut check = |event, expected| assert_eq!(world.apply(Group::Kiln, event), expected);
        check(Event::Apply(object("a", "1", "x.example")), Effect::Plan);
        check(Event::Apply(object("a", "2", "x.example")), Effect::Nothing);
        check(Event::Apply(object("a", "3", "y.example")), Effect::Plan);
        let mut synced = object("a", "4", "y.example");
        synced.data["status"] = json!({ "nextSync": "2026-01-01T00:00:00Z" });
        check(Event::Apply(synced), Effect::Status);
        let mut moved = object("a", "5", "y.example");
        moved.data["status"] = json!({ "address": { "host": "h", "prefix": "" } });
        check(Event::Apply(moved), Effect::Plan);
        check(Event::Delete(object("a", "5", "y.example")), Effect::Plan);
        check(Event::Delete(object("a", "5", "y.example")), Effect::Nothing);
        assert_eq!(world.stirred.len(), 1);
    }
}
