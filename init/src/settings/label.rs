//! `labels`: labels of the Node object.
//!
//! kubelet exits if it gets a label that it may not set, and the API server's admission plugin
//! `NodeRestriction` refuses the same ones, so they are reported here.

use super::read::{Problems, Value};

/// The longest name and the longest value of a label (Kubernetes' `validation.IsQualifiedName` and
/// `IsValidLabelValue`).
const PART_MAX: usize = 63;

/// The longest prefix of a label's key: a DNS name.
const PREFIX_MAX: usize = 253;

/// The labels of Kubernetes' own domains that kubelet may set (`k8s.io/kubelet`,
/// `pkg/apis/well_known_labels.go`, version 1.36).
const ALLOWED: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The domains below which kubelet may set any label.
const ALLOWED_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Kubernetes' own domains.
const OWN_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// Reads `labels`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for entry in value.entries(problems) {
        let Some(text) = entry.lines(problems) else { continue };
        if !is_key(&entry.name) {
            let next = "write NAME or DOMAIN/NAME, with letters, digits, `-`, `_` and `.`";
            entry.refuse(problems, "not the key of a label, ignored", next);
        } else if !is_allowed(&entry.name) {
            let next = format!(
                "set it with kubectl, or use a key below {} or of another domain",
                ALLOWED_DOMAINS[1]
            );
            entry.refuse(problems, "kubelet may not set this label, ignored", next);
        } else if !text.is_empty() && !is_part(&text) {
            let next = "write at most 63 letters, digits, `-`, `_` and `.`";
            entry.refuse(problems, "not the value of a label, ignored", next);
        } else {
            labels.push((entry.name, text));
        }
    }
    labels
}

/// True for a qualified name.
#[must_use]
pub fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_part(key),
        Some((prefix, name)) => prefix.len() <= PREFIX_MAX && is_domain(prefix) && is_part(name),
    }
}

/// True for a name, and for a value that is not empty.
#[must_use]
pub fn is_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= PART_MAX
        && text.bytes().all(inner)
        && outer(text.bytes().next())
        && outer(text.bytes().next_back())
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(byte)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label)
}

/// True if kubelet may set a label with this key.
fn is_allowed(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &&str| {
        domain.strip_suffix(*parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !OWN_DOMAINS.iter().any(&below) || ALLOWED.contains(&key) || ALLOWED_DOMAINS.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::{is_allowed, is_key, is_part};

    #[test]
    fn only_labels_that_kubelet_may_set_are_allowed() {
        for key in [
            "a",
            "example.com/rack",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/pool",
            "x.node.kubernetes.io/pool",
            "notkubernetes.io/a",
        ] {
            assert!(is_key(key) && is_allowed(key), "{key}");
        }
        for key in [
            "node-role.kubernetes.io/worker",
            "node-restriction.kubernetes.io/a",
            "kubernetes.io/role",
            "a.k8s.io/b",
            "k8s.io/b",
        ] {
            assert!(is_key(key) && !is_allowed(key), "{key}");
        }
    }

    #[test]
    fn keys_and_values_have_the_syntax_of_kubernetes() {
        for key in ["", "/a", "a/", "A.b/c/d", "-a", "a-", "ä", "Example.com/a", "a b"] {
            assert!(!is_key(key), "{key}");
        }
        assert!(is_part("a_B.c-1") && !is_part("") && !is_part(&"a".repeat(64)));
    }
}
