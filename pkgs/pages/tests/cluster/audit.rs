//! The requests that the API server has recorded, compared with the operator's rights.

use std::collections::BTreeSet;

use pages::operator::rights;
use serde_json::Value;

use crate::rig::{ACCOUNT, NAMESPACE, Rig, variable};

/// The group, resource and verb of a request.
type Request = (String, String, String);

/// Every request of the operator was allowed and is in the list, and every right was used.
pub fn the_operator_has_the_rights_that_it_uses_and_no_others(_: &Rig) {
    let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let text = std::fs::read_to_string(variable("KILN_PAGES_AUDIT")).unwrap();
    let mut used = BTreeSet::new();
    for line in text.lines() {
        // The last line may be incomplete.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["user"]["username"] != user || event["objectRef"]["resource"].is_null() {
            continue;
        }
        assert_ne!(event["responseStatus"]["code"], 403, "{event:#}");
        used.insert(request(&event));
    }
    let listed: BTreeSet<Request> = rights::all()
        .into_iter()
        .flat_map(|right| {
            let verbs = right.verbs.iter();
            verbs.map(move |verb| {
                (right.group.to_owned(), right.resource.clone(), (*verb).to_owned())
            })
        })
        .collect();
    let missing: Vec<&Request> = used.difference(&listed).collect();
    assert!(missing.is_empty(), "used, but not listed: {missing:?}");
    // An object that server-side apply creates needs the right to create, but is a patch.
    let unused: Vec<&Request> = listed
        .difference(&used)
        .filter(|(_, resource, verb)| verb != "create" || resource == "events")
        .collect();
    assert!(unused.is_empty(), "listed, but not used: {unused:?}");
}

fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let subresource = text(&object["subresource"]);
    let mut resource = text(&object["resource"]);
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    (text(&object["apiGroup"]), resource, text(&event["verb"]))
}
