//! The rights of each role in the cluster: one list for code, manifest and manual; tests compare them.
//!
//! `pages serve` has no rights, because it never asks the API server.

use crate::api::{Group, PLURAL};
use crate::routing::answer::ANSWERED;
use crate::routing::kind::Kind;

/// A right of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource, with a subresource after a slash.
    pub resource: String,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// True if the right holds in all namespaces, false if in the server's only.
    pub is_everywhere: bool,
}

/// The verbs on the objects that the operator makes.
const ROUTES: &[&str] = &["create", "delete", "get", "list", "patch"];

/// The verbs on those of them that are watched.
const WATCHED: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];

/// Returns the rights of the operator.
#[must_use]
pub fn of_operator() -> Vec<Right> {
    let mut rights = Vec::new();
    for group in Group::ALL {
        rights.push(everywhere(group.name(), PLURAL.to_owned(), &["list", "patch", "watch"]));
        rights.push(everywhere(group.name(), format!("{PLURAL}/status"), &["patch"]));
    }
    rights.push(everywhere("events.k8s.io", "events".to_owned(), &["create", "patch"]));
    for kind in Kind::ALL {
        // The list of domains is a ConfigMap, too.
        let is_watched = kind == Kind::RouteFile || ANSWERED.contains(&kind);
        let verbs = if is_watched { WATCHED } else { ROUTES };
        rights.push(inside(kind.group(), kind.plural(), verbs));
    }
    rights.push(inside("coordination.k8s.io", "leases", &["create", "get", "update"]));
    rights
}

/// Returns the rights of the syncer.
#[must_use]
pub fn of_syncer() -> Vec<Right> {
    let mut rights = vec![
        everywhere("", "secrets".to_owned(), &["get"]),
        everywhere("events.k8s.io", "events".to_owned(), &["create"]),
    ];
    for group in Group::ALL {
        rights.push(everywhere(group.name(), PLURAL.to_owned(), &["list", "watch"]));
        rights.push(everywhere(group.name(), format!("{PLURAL}/status"), &["patch"]));
    }
    rights.push(inside("coordination.k8s.io", "leases", &["create", "get", "update"]));
    rights
}

fn everywhere(group: &'static str, resource: String, verbs: &'static [&'static str]) -> Right {
    Right { group, resource, verbs, is_everywhere: true }
}

fn inside(group: &'static str, resource: &str, verbs: &'static [&'static str]) -> Right {
    Right { group, resource: resource.to_owned(), verbs, is_everywhere: false }
}

#[cfg(test)]
mod tests {
    use super::{Right, of_operator, of_syncer};
    use serde_json::Value;
    use std::collections::BTreeSet;

    const MANUAL: &str = include_str!("../../../docs/pages.md");

    /// Each role with its rights and its manifest.
    fn roles() -> [(&'static str, Vec<Right>, &'static str); 2] {
        [
            ("operator", of_operator(), include_str!("../../../manifests/pages/operator.yaml")),
            ("syncer", of_syncer(), include_str!("../../../manifests/pages/syncer.yaml")),
        ]
    }

    /// Returns a right as a row of the manual's table begins.
    fn row(right: &Right) -> String {
        let group = if right.group.is_empty() { "core" } else { right.group };
        let place = if right.is_everywhere { "all namespaces" } else { "its own" };
        format!("| `{group}` | `{}` | {} | {place} |", right.resource, right.verbs.join(", "))
    }

    fn rows(rights: &[Right]) -> BTreeSet<String> {
        rights.iter().map(row).collect()
    }

    /// Returns the rows of a manifest's rules.
    fn given(manifest: &str) -> BTreeSet<String> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap();
        let mut found = BTreeSet::new();
        for object in objects {
            let is_everywhere = object["kind"] == "ClusterRole";
            for rule in object["rules"].as_array().into_iter().flatten() {
                let text = |field: &str| {
                    let list = rule[field].as_array().unwrap().iter();
                    list.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
                };
                let place = if is_everywhere { "all namespaces" } else { "its own" };
                let [group, resource] =
                    ["apiGroups", "resources"].map(|field| text(field).join("+"));
                let group = if group.is_empty() { "core" } else { &group };
                let verbs = text("verbs").join(", ");
                found.insert(format!("| `{group}` | `{resource}` | {verbs} | {place} |"));
            }
        }
        found
    }

    #[test]
    fn each_manifest_gives_exactly_these_rights() {
        for (role, rights, manifest) in roles() {
            assert_eq!(given(manifest), rows(&rights), "{role}");
        }
    }

    #[test]
    fn the_manual_lists_exactly_these_rights() {
        for (role, rights, _) in roles() {
            let heading = format!("\n### Rights of the {role}\n");
            let section = MANUAL.split(&heading).nth(1).unwrap();
            let section = section.split("\n#").next().unwrap();
            let lines = section.lines().filter(|line| line.starts_with("| `"));
            let found: BTreeSet<String> = lines
                .map(|line| line.split(" | ").take(4).collect::<Vec<_>>().join(" | ") + " |")
                .collect();
            assert_eq!(found, rows(&rights), "{role}");
        }
    }
}
