//! The operator's part of a site's status. Pure.

use serde_json::{Value, json};

use super::previews::{self, url};
use super::seen::Seen;
use crate::api::{
    Condition, ConditionStatus, READY, ROLLED_BACK, ROUTED, SYNCED, StaticSiteStatus,
};
use crate::ownership::verdict::{Verdict, sentence};
use crate::table::Address;

/// The reason of a site whose routes no controller has confirmed.
pub const UNCONFIRMED: &str = "Unconfirmed";

/// The result of making a site's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routes {
    /// All routes are in force; the text says of which kind.
    Made(String),
    /// All routes are there, and no controller has confirmed them; the text says of which kind.
    Unconfirmed(String),
    /// A controller refuses a route, or a certificate is not there.
    Refused {
        /// The cause as one word.
        reason: &'static str,
        /// The controller's words.
        message: String,
    },
    /// A route could not be made.
    Failed(String),
    /// No route can be made.
    Impossible(String),
}

/// Returns the status that the operator wants; the fields of the syncer are as they were.
#[must_use]
pub fn status(
    seen: &Seen,
    verdict: &Verdict,
    routes: &Routes,
    scheme: &str,
    now: &str,
) -> StaticSiteStatus {
    let address = match verdict {
        Verdict::Granted { address, .. } => Some(address.clone()),
        Verdict::Refused(_) => None,
    };
    let url = address.as_ref().map(|address| url(scheme, address));
    let way = routed(verdict, routes);
    let ready = ready(&seen.status, &way);
    let conditions = seen.status.conditions.iter();
    let foreign = conditions.filter(|it| ![ROUTED, READY].contains(&it.kind.as_str())).cloned();
    let own = [(ROUTED, way), (READY, ready)].map(|(kind, facts)| facts.into(kind, seen, now));
    StaticSiteStatus {
        address,
        url,
        conditions: foreign.chain(own).collect(),
        ..seen.status.clone()
    }
}

/// Returns the document for server-side apply: the operator's fields only.
///
/// The uid makes the API server refuse it for another object of the same name.
#[must_use]
pub fn document(seen: &Seen, status: &StaticSiteStatus) -> Value {
    let own = status.conditions.iter().filter(|it| [ROUTED, READY].contains(&it.kind.as_str()));
    let mut fields = json!({ "conditions": own.collect::<Vec<_>>() });
    if let (Some(address), Some(url)) = (&status.address, &status.url) {
        fields["address"] = json!(address);
        fields["url"] = json!(url);
    }
    let previews = previews::fields(&status.previews);
    if !previews.is_empty() {
        fields["previews"] = json!(previews);
    }
    json!({
        "apiVersion": seen.id.group.api_version(),
        "kind": crate::api::KIND,
        "metadata": {
            "name": seen.id.key.name(), "namespace": seen.id.key.namespace(), "uid": seen.uid,
        },
        "status": fields,
    })
}

/// True if two statuses have the same conditions of the operator, addresses and urls.
#[must_use]
pub fn is_same(a: &StaticSiteStatus, b: &StaticSiteStatus) -> bool {
    (&a.address, &a.url, &a.previews) == (&b.address, &b.url, &b.previews)
        && [ROUTED, READY].iter().all(|kind| a.condition(kind) == b.condition(kind))
}

/// A condition without its times.
struct Facts {
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

impl Facts {
    fn into(self, kind: &str, seen: &Seen, now: &str) -> Condition {
        let before = seen.status.condition(kind).filter(|before| before.status == self.status);
        Condition {
            kind: kind.to_owned(),
            status: self.status,
            reason: self.reason.to_owned(),
            message: self.message,
            last_transition_time: before
                .map_or_else(|| now.to_owned(), |before| before.last_transition_time.clone()),
            observed_generation: seen.generation,
        }
    }
}

fn routed(verdict: &Verdict, routes: &Routes) -> Facts {
    let (address, rivals) = match verdict {
        Verdict::Refused(refusal) => {
            let (reason, message) = (refusal.reason.name(), refusal.message.clone());
            return Facts { status: ConditionStatus::False, reason, message };
        }
        Verdict::Granted { address, rivals } => (address, rivals),
    };
    let Address { host, prefix } = address;
    let (status, reason, text) = match routes {
        Routes::Made(kind) => {
            (ConditionStatus::True, "Routed", format!("{host}{prefix} by {kind}"))
        }
        Routes::Unconfirmed(kind) => (
            ConditionStatus::Unknown,
            UNCONFIRMED,
            format!("{host}{prefix} by {kind}, which no controller has confirmed"),
        ),
        Routes::Refused { reason, message } => (ConditionStatus::False, *reason, message.clone()),
        Routes::Failed(cause) => (ConditionStatus::False, "RouteFailed", cause.clone()),
        Routes::Impossible(cause) => (ConditionStatus::False, "ApiMissing", cause.clone()),
    };
    // Both sides of a conflict show it.
    let message = match sentence(rivals) {
        Some(rivals) => format!("{text}; {rivals}"),
        None => text,
    };
    Facts { status, reason, message }
}

/// A site is ready if visitors get a revision of it, even an old one.
///
/// A route that no controller has confirmed does not count against the site, because in some clusters no
/// controller writes a status.
fn ready(status: &StaticSiteStatus, routed: &Facts) -> Facts {
    let synced = status.condition(SYNCED);
    if routed.status == ConditionStatus::False {
        return Facts {
            status: ConditionStatus::False,
            reason: routed.reason,
            message: routed.message.clone(),
        };
    }
    let cause = |default: &str| synced.map_or(default.to_owned(), |it| it.message.clone());
    match (&status.revision, synced.map(|it| it.status)) {
        (None, Some(ConditionStatus::False)) => Facts {
            status: ConditionStatus::False,
            reason: "NotSynced",
            message: cause("the repository was not published"),
        },
        (None, _) => Facts {
            status: ConditionStatus::Unknown,
            reason: "Pending",
            message: "the syncer has not published the site yet".to_owned(),
        },
        (Some(revision), Some(ConditionStatus::False)) => Facts {
            status: ConditionStatus::True,
            reason: "OldRevision",
            message: format!("{} is served; {}", revision.commit, cause("the next failed")),
        },
        (Some(revision), _) if synced.is_some_and(|it| it.reason == ROLLED_BACK) => Facts {
            status: ConditionStatus::True,
            reason: ROLLED_BACK,
            message: format!("a rollback holds the site at {}", revision.commit),
        },
        (Some(revision), _) => Facts {
            status: ConditionStatus::True,
            reason: "Ready",
            message: format!("{} is served", revision.commit),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::seen;
    use super::super::seen::Seen;
    use super::{Routes, document, is_same, status};
    use crate::api::{Condition, ConditionStatus, READY, ROUTED, Revision, SYNCED};
    use crate::ownership::verdict::{Reason, Refusal, Verdict};
    use crate::table::Address;
    use serde_json::json;

    fn granted() -> Verdict {
        let address = Address { host: "a.example".to_owned(), prefix: "/x".to_owned() };
        Verdict::Granted { address, rivals: vec![seen("b/b", "a.example", 2).id] }
    }

    fn made() -> Routes {
        Routes::Made("Ingress".to_owned())
    }

    fn synced(mut seen: Seen, status: ConditionStatus, revision: bool) -> Seen {
        seen.status.conditions.push(Condition {
            kind: SYNCED.to_owned(),
            status,
            reason: "x".to_owned(),
            message: "no such branch".to_owned(),
            last_transition_time: "1".to_owned(),
            observed_generation: None,
        });
        let revision = revision.then(|| Revision {
            digest: "sha256:0".to_owned(),
            commit: "abc".to_owned(),
            time: "1".to_owned(),
        });
        seen.status.revision = revision;
        seen
    }

    /// Compares the condition `Ready` for a routed site.
    fn check(seen: &Seen, expected: (ConditionStatus, &str)) {
        let found = status(seen, &granted(), &made(), "https", "2");
        let ready = found.condition(READY).unwrap();
        assert_eq!((ready.status, ready.reason.as_str()), expected);
        assert_eq!(found.revision, seen.status.revision);
    }

    #[test]
    fn a_site_is_ready_while_a_revision_is_served() {
        use ConditionStatus::{False, True, Unknown};
        let site = || seen("a/a", "a.example", 1);
        check(&site(), (Unknown, "Pending"));
        check(&synced(site(), False, false), (False, "NotSynced"));
        check(&synced(site(), False, true), (True, "OldRevision"));
        check(&synced(site(), True, true), (True, "Ready"));
    }

    #[test]
    fn an_unconfirmed_route_does_not_block_a_site_and_a_refused_one_does() {
        let site = synced(seen("a/a", "a.example", 1), ConditionStatus::True, true);
        let check =
            |routes: &Routes, routed: (ConditionStatus, &str), ready: (ConditionStatus, &str)| {
                let found = status(&site, &granted(), routes, "https", "2");
                for (kind, expected) in [(ROUTED, routed), (READY, ready)] {
                    let condition = found.condition(kind).unwrap();
                    assert_eq!((condition.status, condition.reason.as_str()), expected, "{kind}");
                }
            };
        let (no, yes) = (ConditionStatus::False, ConditionStatus::True);
        let unconfirmed = Routes::Unconfirmed("HTTPRoute".to_owned());
        check(&unconfirmed, (ConditionStatus::Unknown, "Unconfirmed"), (yes, "Ready"));
        let refused = Routes::Refused { reason: "NotAccepted", message: "no listener".to_owned() };
        check(&refused, (no, "NotAccepted"), (no, "NotAccepted"));
    }

    #[test]
    fn the_document_has_the_operators_fields_only() {
        let site = synced(seen("a/a", "a.example", 1), ConditionStatus::True, true);
        let found = status(&site, &granted(), &made(), "https", "2");
        let document = document(&site, &found);
        assert_eq!(document["status"]["url"], "https://a.example/x/");
        assert_eq!(document["status"]["address"], json!({ "host": "a.example", "prefix": "/x" }));
        assert!(document["status"].get("revision").is_none());
        let types: Vec<&str> = document["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, [ROUTED, READY]);
        let message = document["status"]["conditions"][0]["message"].as_str().unwrap();
        assert_eq!(message, "a.example/x by Ingress; also wanted by b/b");
        assert_eq!(document["metadata"]["uid"], "uid-a/a");
    }

    #[test]
    fn a_refused_site_has_no_address_and_both_conditions_say_why() {
        let verdict = Verdict::Refused(Refusal::new(Reason::HostTaken, "taken"));
        let site = seen("a/a", "a.example", 1);
        let found = status(&site, &verdict, &made(), "https", "2");
        assert_eq!((&found.address, &found.url), (&None, &None));
        for kind in [ROUTED, READY] {
            let condition = found.condition(kind).unwrap();
            assert_eq!(
                (condition.status, condition.reason.as_str()),
                (ConditionStatus::False, "HostTaken")
            );
        }
        assert!(document(&site, &found)["status"].get("address").is_none());
    }

    #[test]
    fn a_transition_has_the_time_of_its_change() {
        let mut site = seen("a/a", "a.example", 1);
        let first = status(&site, &granted(), &made(), "https", "1");
        site.status = first.clone();
        let again = status(&site, &granted(), &made(), "https", "2");
        assert!(is_same(&first, &again) && first == again);
        let failed = status(&site, &granted(), &Routes::Failed("x".to_owned()), "https", "3");
        assert_eq!(failed.condition(ROUTED).unwrap().last_transition_time, "3");
        assert_eq!(failed.condition(READY).unwrap().last_transition_time, "3");
        assert!(!is_same(&first, &failed));
    }
}
