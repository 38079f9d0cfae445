//! The syncer's part of the previews in a site's status. Pure.
//!
//! It has a field manager of its own, so that it is written apart from the site's revision.

use serde_json::{Value, json};

use crate::api::{Condition, ConditionStatus, KIND, PREVIEWED, Preview};
use crate::syncer::desired::Desired;

/// The field manager of the previews.
pub const MANAGER: &str = "pages-previews";

/// The most characters of a message.
const MESSAGE_CHARS_MAX: usize = 500;

/// The syncer's view of a site's previews.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The previews, with the syncer's fields only, by reference.
    pub previews: Vec<Preview>,
    /// The condition; nothing for a site without a wish for previews.
    pub condition: Option<Facts>,
}

/// The condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// True if all previews show their last commits.
    pub is_complete: bool,
    /// The cause as one word.
    pub reason: &'static str,
    /// The cause in words.
    pub message: String,
}

/// True if the status shows previews, or the condition about them.
#[must_use]
pub fn shows(site: &Desired) -> bool {
    site.status.condition(PREVIEWED).is_some() || !own(site).is_empty()
}

/// Returns the syncer's fields in the status.
fn own(site: &Desired) -> Vec<Preview> {
    let fields = site.status.previews.iter().map(|preview| Preview {
        address: None,
        url: None,
        refused: None,
        ..preview.clone()
    });
    // The operator removes its fields a moment after the syncer's.
    let mut own: Vec<Preview> = fields.filter(|preview| preview.expires.is_some()).collect();
    own.sort_by(|a, b| a.reference.cmp(&b.reference));
    own
}

/// Returns the document for server-side apply, or nothing if the object shows all of it.
///
/// The uid makes the API server refuse it for another object of the same name.
#[must_use]
pub fn document(site: &Desired, view: &View, now: &str) -> Option<Value> {
    let old = site.status.condition(PREVIEWED);
    let condition = view.condition.as_ref().map(|facts| {
        let status = if facts.is_complete { ConditionStatus::True } else { ConditionStatus::False };
        let since = old.filter(|old| old.status == status).map(|old| &old.last_transition_time);
        Condition {
            kind: PREVIEWED.to_owned(),
            status,
            reason: facts.reason.to_owned(),
            message: facts.message.chars().take(MESSAGE_CHARS_MAX).collect(),
            last_transition_time: since.map_or_else(|| now.to_owned(), Clone::clone),
            observed_generation: site.generation,
        }
    });
    if old == condition.as_ref() && own(site) == view.previews {
        return None;
    }
    let mut fields = json!({});
    if let Some(condition) = condition {
        fields["conditions"] = json!([condition]);
    }
    if !view.previews.is_empty() {
        fields["previews"] = json!(view.previews);
    }
    Some(json!({
        "apiVersion": site.group.api_version(),
        "kind": KIND,
        "metadata": {
            "name": site.key.name(), "namespace": site.key.namespace(), "uid": site.uid,
        },
        "status": fields,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Facts, View, document, shows};
    use crate::api::{Group, Preview};
    use crate::syncer::desired::Desired;
    use serde_json::{Value, json};

    fn site(status: &Value) -> Desired {
        let object = json!({
            "apiVersion": "pages.kiln.local/v1beta1", "kind": "StaticSite",
            "metadata": { "name": "a", "namespace": "team", "uid": "u" },
            "spec": { "repo": "https://git.test/a.git", "previews": { "branches": ["*"] } },
            "status": status,
        });
        Desired::new(Group::Kiln, &serde_json::from_value(object).unwrap()).unwrap()
    }

    fn view() -> View {
        let preview = Preview {
            reference: "refs/heads/next".to_owned(),
            branch: Some("next".to_owned()),
            commit: Some("abc".to_owned()),
            expires: Some("2026-01-08T00:00:00Z".to_owned()),
            ..Preview::default()
        };
        let facts =
            Facts { is_complete: true, reason: "Published", message: "1 preview".to_owned() };
        View { previews: vec![preview], condition: Some(facts) }
    }

    #[test]
    fn the_operators_fields_are_neither_written_nor_compared() {
        let written = document(&site(&json!({})), &view(), "2026-01-01T00:00:00Z").unwrap();
        let mut status = written["status"].clone();
        status["previews"][0]["address"] = json!({ "host": "a.example", "prefix": "" });
        status["previews"][0]["url"] = json!("https://a.example/");
        let seen = site(&status);
        assert!(shows(&seen) && seen.published_previews().count() == 1);
        assert_eq!(document(&seen, &view(), "2026-01-02T00:00:00Z"), None);
        let gone = document(&seen, &View::default(), "2026-01-02T00:00:00Z").unwrap();
        assert_eq!(gone["status"], json!({}), "previews were turned off");
        assert!(!shows(&site(&json!({}))));
        assert_eq!(document(&site(&json!({})), &View::default(), "x"), None);
    }
}
