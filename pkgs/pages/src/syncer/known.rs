//! The sites of both API groups, as watches report them. Pure.
//!
//! If both groups have a site of one name in one namespace, that of our own group counts; when it is
//! deleted, the other one counts at once.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use crate::api::Group;
use crate::key::SiteKey;
use crate::syncer::desired::Desired;

/// The known sites.
#[derive(Debug, Default)]
pub struct Known {
    groups: Vec<Group>,
    /// The sites of our own group.
    own: BTreeSet<SiteKey>,
    /// The sites of the other group.
    other: BTreeMap<SiteKey, Desired>,
    /// The sites of lists that are not complete yet.
    listed: BTreeSet<(Group, SiteKey)>,
    complete: BTreeSet<Group>,
}

/// A consequence of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A site is new, or may have changed.
    Take(Box<Desired>),
    /// A site is gone.
    Leave(SiteKey),
    /// All sites of the cluster are known.
    Settle,
}

impl Known {
    /// Records the groups that the cluster serves. Returns true if they differ from before, so that the
    /// watches must begin again. Sites of a group that is not served any more stay until the API server
    /// reports them as deleted.
    pub fn serve(&mut self, groups: Vec<Group>) -> bool {
        let is_new = groups != self.groups;
        self.groups = groups;
        is_new
    }

    /// Returns the groups that are watched.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Applies an event of a watch.
    pub fn apply(&mut self, group: Group, event: &Event<DynamicObject>) -> Vec<Step> {
        match event {
            Event::Init => {
                self.listed.retain(|(one, _)| *one != group);
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(key) = key(object) else { return Vec::new() };
                let Some(site) = Desired::new(group, object) else { return self.gone(group, &key) };
                if matches!(event, Event::InitApply(_)) {
                    self.listed.insert((group, key.clone()));
                }
                self.take(group, key, site)
            }
            Event::Delete(object) => key(object).map_or(Vec::new(), |key| self.gone(group, &key)),
            Event::InitDone => self.end_list(group),
        }
    }

    fn take(&mut self, group: Group, key: SiteKey, site: Desired) -> Vec<Step> {
        if group == Group::Kiln {
            self.own.insert(key);
        } else {
            self.other.insert(key.clone(), site.clone());
            if self.own.contains(&key) {
                return Vec::new();
            }
        }
        vec![Step::Take(Box::new(site))]
    }

    fn gone(&mut self, group: Group, key: &SiteKey) -> Vec<Step> {
        let counted = if group == Group::Kiln {
            self.own.remove(key)
        } else {
            self.other.remove(key).is_some() && !self.own.contains(key)
        };
        match self.other.get(key) {
            _ if !counted => Vec::new(),
            Some(site) => vec![Step::Take(Box::new(site.clone()))],
            None => vec![Step::Leave(key.clone())],
        }
    }

    fn end_list(&mut self, group: Group) -> Vec<Step> {
        let keys: Vec<SiteKey> = match group {
            Group::Kiln => self.own.iter().cloned().collect(),
            Group::Kup6s => self.other.keys().cloned().collect(),
        };
        let mut steps = Vec::new();
        for key in keys {
            if !self.listed.contains(&(group, key.clone())) {
                steps.extend(self.gone(group, &key));
            }
        }
        self.listed.retain(|(one, _)| *one != group);
        self.complete.insert(group);
        if self.groups.iter().all(|group| self.complete.contains(group)) {
            steps.push(Step::Settle);
        }
        steps
    }
}

fn key(object: &DynamicObject) -> Option<SiteKey> {
    let metadata = &object.metadata;
    SiteKey::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Known, Step};
    use crate::api::Group;
    use kube::api::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    fn object(name: &str, spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "team", "uid": "u" }, "spec": spec,
        }))
        .unwrap()
    }

    fn site(name: &str) -> DynamicObject {
        object(name, &json!({ "repo": "https://git.test/a.git" }))
    }

    /// Applies an event; returns the consequences as text.
    fn check(known: &mut Known, group: Group, event: &Event<DynamicObject>, expected: &[&str]) {
        let steps: Vec<String> = known
            .apply(group, event)
            .into_iter()
            .map(|step| match step {
                Step::Take(site) => format!("take {} {:?}", site.key.name(), site.group),
                Step::Leave(key) => format!("leave {}", key.name()),
                Step::Settle => "settle".to_owned(),
            })
            .collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_list_replaces_the_sites_of_its_group() {
        let mut known = Known::default();
        assert!(known.serve(vec![Group::Kiln]) && !known.serve(vec![Group::Kiln]));
        for (names, end) in [(["a", "b"], vec!["settle"]), (["b", "c"], vec!["leave a", "settle"])]
        {
            check(&mut known, Group::Kiln, &Event::Init, &[]);
            for name in names {
                let expected = format!("take {name} Kiln");
                check(&mut known, Group::Kiln, &Event::InitApply(site(name)), &[&expected]);
            }
            check(&mut known, Group::Kiln, &Event::InitDone, &end);
        }
    }

    #[test]
    fn the_other_groups_site_counts_as_soon_as_ours_is_gone() {
        let (ours, theirs) = (Group::Kiln, Group::Kup6s);
        let mut known = Known::default();
        check(&mut known, theirs, &Event::Apply(site("a")), &["take a Kup6s"]);
        check(&mut known, ours, &Event::Apply(site("a")), &["take a Kiln"]);
        check(&mut known, theirs, &Event::Apply(site("a")), &[]);
        check(&mut known, ours, &Event::Delete(site("a")), &["take a Kup6s"]);
        check(&mut known, ours, &Event::Delete(site("a")), &[]);
        check(&mut known, theirs, &Event::Delete(site("a")), &["leave a"]);
    }

    #[test]
    fn a_site_that_leaves_is_gone_and_one_that_cannot_be_read_stays() {
        let mut known = Known::default();
        check(&mut known, Group::Kiln, &Event::Apply(site("a")), &["take a Kiln"]);
        let strange = object("a", &json!({ "repo": 7 }));
        check(&mut known, Group::Kiln, &Event::Apply(strange), &["take a Kiln"]);
        let mut leaving = site("a");
        leaving.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        check(&mut known, Group::Kiln, &Event::Apply(leaving), &["leave a"]);
    }
}
