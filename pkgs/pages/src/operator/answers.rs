//! The answers of other controllers to the operator's objects, kept up to date by watches.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::calls::Made;
use super::pass::Existing;
use crate::routing::ObjectKey;
use crate::routing::answer::{Answer, answer};
use crate::routing::kind::Kind;

/// The known answers.
#[derive(Debug, Default)]
pub struct Answers {
    known: BTreeMap<ObjectKey, Answer>,
    listed: BTreeSet<ObjectKey>,
}

impl Answers {
    /// Returns the answers.
    pub const fn known(&self) -> &BTreeMap<ObjectKey, Answer> {
        &self.known
    }

    /// Applies an event of a watch. Returns true if a pass is needed: an answer is new, or another program
    /// has changed or deleted an object.
    pub fn apply(
        &mut self,
        kind: Kind,
        event: Event<DynamicObject>,
        existing: &mut Existing,
    ) -> bool {
        let key = |object: &DynamicObject| {
            let name = object.metadata.name.clone().unwrap_or_default();
            ObjectKey { kind, name }
        };
        match event {
            Event::Init => {
                self.listed.retain(|key| key.kind != kind);
                false
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                self.learn(key(&object), &object, existing)
            }
            Event::InitDone => {
                let before = self.known.len();
                let listed = &self.listed;
                self.known.retain(|key, _| key.kind != kind || listed.contains(key));
                let is_new = self.known.len() != before;
                self.listed.retain(|key| key.kind != kind);
                is_new
            }
            Event::Apply(object) => self.learn(key(&object), &object, existing),
            Event::Delete(object) => {
                self.known.remove(&key(&object));
                existing.lose(&key(&object), &Made::new(&object.metadata))
            }
        }
    }

    fn learn(&mut self, key: ObjectKey, object: &DynamicObject, existing: &mut Existing) -> bool {
        let is_changed = existing.see(&key, &Made::new(&object.metadata));
        let new = answer(key.kind, object);
        let is_new = self.known.get(&key) != new.as_ref();
        match new {
            Some(answer) => self.known.insert(key, answer),
            None => self.known.remove(&key),
        };
        is_changed || is_new
    }
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use crate::operator::pass::Existing;
    use crate::routing::kind::Kind;
    use kube::api::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn route(name: &str, status: &str) -> DynamicObject {
        let condition = json!({ "type": "Accepted", "status": status });
        serde_json::from_value(json!({
            "metadata": { "name": name, "uid": "u" },
            "status": { "parents": [{ "conditions": [condition] }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_pass_is_needed_when_an_answer_changes() {
        let (mut answers, mut existing) = (Answers::default(), Existing::default());
        let mut apply = |event| answers.apply(Kind::HttpRoute, event, &mut existing);
        assert!(!apply(Event::Init));
        assert!(apply(Event::InitApply(route("a", "True"))));
        assert!(apply(Event::InitApply(route("b", "True"))));
        assert!(!apply(Event::InitDone));
        assert!(!apply(Event::Apply(route("a", "True"))), "only the version differs");
        assert!(apply(Event::Apply(route("a", "False"))));
        assert!(!apply(Event::Init));
        assert!(!apply(Event::InitApply(route("a", "False"))));
        assert!(apply(Event::InitDone), "b is gone");
        assert!(!apply(Event::Delete(route("a", "False"))), "its site is gone, too");
    }
}
