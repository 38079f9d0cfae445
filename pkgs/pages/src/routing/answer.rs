//! The answers of other controllers to the objects that the operator makes: whether routes are accepted
//! and certificates are there. Pure.
//!
//! | object | answer |
//! | --- | --- |
//! | `HTTPRoute` | `status.parents`: the conditions `Accepted` and `ResolvedRefs` of each Gateway (Gateway API, `RouteParentStatus`) |
//! | Certificate | the condition `Ready` |
//! | Ingress | `status.loadBalancer`: the addresses, if its controller publishes any |
//!
//! An answer about an earlier generation does not count.

use kube::api::DynamicObject;
use serde_json::Value;

use super::kind::Kind;

/// The most characters of a controller's message.
const MESSAGE_CHARS_MAX: usize = 300;

/// The answer of a controller to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// No controller has answered.
    Waiting,
    /// The object is in force; the text says more, and may be empty.
    Accepted(String),
    /// The object has no effect.
    Refused {
        /// The cause as one word.
        reason: &'static str,
        /// The controller's words.
        message: String,
    },
}

/// The kinds whose objects get answers.
pub const ANSWERED: [Kind; 3] = [Kind::Certificate, Kind::HttpRoute, Kind::Ingress];

/// Reads the answer from an object; nothing for a kind that gets none.
#[must_use]
pub fn answer(kind: Kind, object: &DynamicObject) -> Option<Answer> {
    let status = &object.data["status"];
    match kind {
        Kind::HttpRoute => Some(of_parents(&status["parents"], object.metadata.generation)),
        Kind::Certificate => Some(of_certificate(status, object.metadata.generation)),
        Kind::Ingress => of_load_balancer(&status["loadBalancer"]["ingress"]),
        _ => None,
    }
}

impl Answer {
    /// Returns the answer that counts for a site with both objects: the worse one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |answer: &Self| match answer {
            Self::Refused { .. } => 2,
            Self::Waiting => 1,
            Self::Accepted(_) => 0,
        };
        match (self, other) {
            (Self::Accepted(one), Self::Accepted(two)) if one.is_empty() => Self::Accepted(two),
            (one, two) if rank(&two) > rank(&one) => two,
            (one, _) => one,
        }
    }
}

fn of_parents(parents: &Value, generation: Option<i64>) -> Answer {
    let parents = parents.as_array().map(Vec::as_slice).unwrap_or_default();
    let answers = parents.iter().map(|parent| {
        let [accepted, resolved] = ["Accepted", "ResolvedRefs"]
            .map(|kind| Found::new(&parent["conditions"], kind, generation));
        match (accepted, resolved) {
            (Some(Found { status: "False", text }), _) => refused("NotAccepted", text),
            (_, Some(Found { status: "False", text })) => refused("RefsNotResolved", text),
            (Some(Found { status: "True", .. }), _) => Answer::Accepted(String::new()),
            _ => Answer::Waiting,
        }
    });
    answers.reduce(Answer::and).unwrap_or(Answer::Waiting)
}

fn of_certificate(status: &Value, generation: Option<i64>) -> Answer {
    match Found::new(&status["conditions"], "Ready", generation) {
        Some(Found { status: "True", .. }) => Answer::Accepted(String::new()),
        Some(Found { status: "False", text }) => refused("CertificateNotReady", text),
        _ => Answer::Waiting,
    }
}

/// Many controllers publish no address, so an Ingress without one has got no answer.
fn of_load_balancer(ingress: &Value) -> Option<Answer> {
    let points = ingress.as_array()?.iter();
    let names = points.filter_map(|point| point["ip"].as_str().or(point["hostname"].as_str()));
    let names: Vec<&str> = names.take(4).collect();
    (!names.is_empty()).then(|| Answer::Accepted(format!("at {}", names.join(", "))))
}

fn refused(reason: &'static str, text: String) -> Answer {
    Answer::Refused { reason, message: text }
}

/// A condition about the present generation.
struct Found<'a> {
    status: &'a str,
    text: String,
}

impl<'a> Found<'a> {
    fn new(conditions: &'a Value, kind: &str, generation: Option<i64>) -> Option<Self> {
        let condition = conditions.as_array()?.iter().find(|one| one["type"] == kind)?;
        let seen = condition["observedGeneration"].as_i64();
        if seen.zip(generation).is_some_and(|(seen, generation)| seen < generation) {
            return None;
        }
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let message = format!("{}: {}", text("reason"), text("message"));
        let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
        Some(Self { status: text("status"), text: message })
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, answer};
    use crate::routing::kind::Kind;
    use kube::api::DynamicObject;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn object(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({ "metadata": { "generation": 3 }, "status": status }))
            .unwrap()
    }

    fn condition(kind: &str, status: &str, generation: i64) -> Value {
        json!({ "type": kind, "status": status, "reason": "R", "message": "m",
                "observedGeneration": generation })
    }

    fn check(kind: Kind, status: &Value, expected: &str) {
        let found = match answer(kind, &object(status)) {
            None => "nothing".to_owned(),
            Some(Answer::Waiting) => "waiting".to_owned(),
            Some(Answer::Accepted(text)) => format!("accepted {text}"),
            Some(Answer::Refused { reason, message }) => format!("{reason} {message}"),
        };
        assert_eq!(found.trim(), expected, "{status}");
    }

    #[test]
    fn a_route_counts_when_each_gateway_accepts_it_and_its_references() {
        let parent = |conditions: &[Value]| json!({ "conditions": conditions });
        let yes = condition("Accepted", "True", 3);
        let no = condition("Accepted", "False", 3);
        let lost = condition("ResolvedRefs", "False", 3);
        let old = condition("Accepted", "True", 2);
        let check = |parents: &[Value], expected: &str| {
            check(Kind::HttpRoute, &json!({ "parents": parents }), expected);
        };
        check(&[], "waiting");
        check(&[parent(&[])], "waiting");
        check(&[parent(&[old])], "waiting");
        check(&[parent(std::slice::from_ref(&yes))], "accepted");
        check(&[parent(&[yes.clone(), lost])], "RefsNotResolved R: m");
        check(&[parent(&[yes]), parent(&[no])], "NotAccepted R: m");
    }

    #[test]
    fn a_certificate_and_an_ingress_have_their_own_answers() {
        let ready = |status: &str, generation| json!({ "conditions": [condition("Ready", status, generation)] });
        check(Kind::Certificate, &json!(null), "waiting");
        check(Kind::Certificate, &ready("True", 3), "accepted");
        check(Kind::Certificate, &ready("False", 3), "CertificateNotReady R: m");
        check(Kind::Certificate, &ready("True", 1), "waiting");
        let at = |points: &Value| json!({ "loadBalancer": { "ingress": points } });
        check(Kind::Ingress, &json!({ "loadBalancer": {} }), "nothing");
        check(Kind::Ingress, &at(&json!([])), "nothing");
        check(
            Kind::Ingress,
            &at(&json!([{ "ip": "192.0.2.1" }, { "hostname": "h" }])),
            "accepted at 192.0.2.1, h",
        );
        check(Kind::IngressRoute, &json!({}), "nothing");
    }

    proptest! {
        #[test]
        fn no_status_causes_a_panic(text in ".*", number in any::<i64>(), kind in 0_usize..3) {
            for status in [json!(text), json!(number), json!([text]), json!({ "parents": text,
                "conditions": [number], "loadBalancer": { "ingress": [text] } }),
                json!({ "parents": [{ "conditions": [{ "type": "Accepted", "status": text }] }] })] {
                let _ = answer(super::ANSWERED[kind], &object(&status));
            }
        }
    }
}
