//! The answers of other controllers to the operator's objects, kept up to date by watches.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::calls::Made;
use super::pass::Existing;
use super::world::Effect;
use crate::routing::ObjectKey;
use crate::routing::answer::{Answer, answer};
use crate::routing::kind::Kind;

/// The known answers.
#[derive(Debug, Default)]
pub struct Answers {
    known: BTreeMap<ObjectKey, Answer>,
    listed: BTreeSet<ObjectKey>,
    /// The objects with new answers since the last pass.
    pub stirred: Vec<ObjectKey>,
}

impl Answers {
    /// Returns the answers.
    pub const fn known(&self) -> &BTreeMap<ObjectKey, Answer> {
        &self.known
    }

    /// Applies an event of a watch. Another program's change of an object needs a plan, and a new answer a
    /// status.
    pub fn apply(
        &mut self,
        kind: Kind,
        event: Event<DynamicObject>,
        existing: &mut Existing,
    ) -> Effect {
        let key = |object: &DynamicObject| {
            let name = object.metadata.name.clone().unwrap_or_default();
            ObjectKey { kind, name }
        };
        match event {
            Event::Init => {
                self.listed.retain(|key| key.kind != kind);
                Effect::Nothing
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
                if is_new { Effect::Plan } else { Effect::Nothing }
            }
            Event::Apply(object) => self.learn(key(&object), &object, existing),
            Event::Delete(object) => {
                self.known.remove(&key(&object));
                let is_lost = existing.lose(&key(&object), &Made::new(&object.metadata));
                if is_lost { Effect::Plan } else { Effect::Nothing }
            }
        }
    }

    fn learn(&mut self, key: ObjectKey, object: &DynamicObject, existing: &mut Existing) -> Effect {
        let is_changed = existing.see(&key, &Made::new(&object.metadata));
        let new = answer(key.kind, object);
        let is_new = self.known.get(&key) != new.as_ref();
        if is_new {
            self.stirred.push(key.clone());
        }
        match new {
            Some(answer) => self.known.insert(key, answer),
            None => self.known.remove(&key),
        };
        match (is_changed, is_new) {
            (true, _) => Effect::Plan,
            (false, true) => Effect::Status,
            (false, false) => Effect::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use crate::operator::pass::Existing;
    use crate::operator::world::Effect;
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
        let mut check = |event, expected| {
            assert_eq!(answers.apply(Kind::HttpRoute, event, &mut existing), expected);
        };
        check(Event::Init, Effect::Nothing);
        check(Event::InitApply(route("a", "True")), Effect::Status);
        check(Event::InitApply(route("b", "True")), Effect::Status);
        check(Event::InitDone, Effect::Nothing);
        check(Event::Apply(route("a", "True")), Effect::Nothing);
        check(Event::Apply(route("a", "False")), Effect::Status);
        check(Event::Init, Effect::Nothing);
        check(Event::InitApply(route("a", "False")), Effect::Nothing);
        // The other one is gone.
        check(Event::InitDone, Effect::Plan);
        // Its site is gone, too, so the operator has deleted it.
        check(Event::Delete(route("a", "False")), Effect::Nothing);
        assert_eq!(answers.stirred.len(), 3);
    }
}
