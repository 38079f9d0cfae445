//! Sites for tests.

use kube::api::DynamicObject;
use serde_json::json;

use super::seen::Seen;
use crate::api::Group;

/// Returns a site with this domain.
pub fn seen(key: &str, domain: &str, created: i64) -> Seen {
    let (namespace, name) = key.split_once('/').unwrap();
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "pages.kiln.local/v1beta1", "kind": "StaticSite",
        "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{key}"),
                      "generation": 2, "resourceVersion": "7" },
        "spec": { "repo": "https://git.test/a.git", "domain": domain },
    }))
    .unwrap();
    Seen { created, ..Seen::new(Group::Kiln, &object).unwrap() }
}
