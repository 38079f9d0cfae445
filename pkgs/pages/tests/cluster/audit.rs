//! The requests that the API server has recorded, compared with the rights of each role.

use std::collections::BTreeSet;

use pages::rights::{self, Right};
use serde_json::Value;

use crate::rig::{ACCOUNT, NAMESPACE, Rig, variable};
use crate::whole;

/// The group, resource and verb of a request.
type Request = (String, String, String);

/// Every request of a role was allowed and is in the list of its rights, and every right was used.
pub fn each_role_has_the_rights_that_it_uses_and_no_others(_: &Rig) {
    check(ACCOUNT, &rights::of_operator());
    check(whole::ACCOUNT, &rights::of_syncer());
}

fn check(account: &str, rights: &[Right]) {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let text = std::fs::read_to_string(variable("KILN_PAGES_AUDIT")).unwrap();
    let mut requests = BTreeSet::new();
    for line in text.lines() {
        // The last line may be incomplete.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["user"]["username"] != user || event["objectRef"]["resource"].is_null() {
            continue;
        }
        assert_ne!(event["responseStatus"]["code"], 403, "{event:#}");
        requests.insert(request(&event));
    }
    let listed: BTreeSet<Request> = rights
        .iter()
        .flat_map(|right| {
            let verbs = right.verbs.iter();
            verbs.map(|verb| (right.group.to_owned(), right.resource.clone(), (*verb).to_owned()))
        })
        .collect();
    let missing: Vec<&Request> = requests.difference(&listed).collect();
    assert!(missing.is_empty(), "{account} uses what is not listed: {missing:?}");
    // An object that server-side apply creates needs the right to create, but is a patch.
    let unused: Vec<&Request> = listed
        .difference(&requests)
        .filter(|(_, resource, verb)| verb != "create" || resource == "events")
        .collect();
    assert!(unused.is_empty(), "{account} does not use what is listed: {unused:?}");
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
