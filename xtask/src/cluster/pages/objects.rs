//! The files that a user would write: a kustomization with settings, and the sites.

use serde_json::{Value, json};

use super::super::kustomize;
use crate::digest::Digest;
use crate::qemu::segment;

/// The namespace of the program.
pub const NAMESPACE: &str = "kiln-pages";

/// The label of the program's objects.
pub const LABEL: &str = "app.kubernetes.io/part-of=pages";

/// The domain below which all sites are. Browsers and curl take every name below `localhost` for this
/// machine.
pub const DOMAIN: &str = "pages.localhost";

/// The sites: namespace and name, which is the name of the repository, too.
pub const SITES: [Site; 3] = [
    Site { namespace: "team-a", name: "blog" },
    Site { namespace: "team-a", name: "docs" },
    Site { namespace: "team-b", name: "shop" },
];

/// The Secret with the secret of webhooks, in each namespace with sites.
const WEBHOOK: &str = "webhook";

/// A site of the demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The namespace of its `StaticSite`.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
}

impl Site {
    /// The host name under which visitors ask for it.
    pub fn host(self) -> String {
        format!("{}.{}.{DOMAIN}", self.name, self.namespace)
    }
}

/// Returns the kustomization next to a copy of `manifests/pages`.
pub fn kustomization(base: &str, image: &str, digest: &Digest) -> Value {
    let settings = [format!("DOMAIN={DOMAIN}"), format!("GIT_HOST={}", segment::HOST)];
    let more = |role: &str, options: &[String]| {
        let add = |option: &String| json!({ "op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": option });
        let patch: Vec<Value> = options.iter().map(add).collect();
        json!({
            "target": { "labelSelector": format!("app.kubernetes.io/name=pages-{role}") },
            "patch": Value::from(patch).to_string(),
        })
    };
    let git = [
        format!("--git-plain-host={}", segment::HOST),
        format!("--git-network={}/32", segment::HOST),
    ];
    // The port-forward leads to the server itself, so no route is needed.
    let names = ["--scheme=http".to_owned(), "--routes=none".to_owned()];
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [kustomize::image(image, digest)],
        "configMapGenerator": [{
            "name": "pages-settings", "namespace": NAMESPACE,
            "behavior": "merge", "literals": settings,
        }],
        "patches": [more("syncer", &git), more("operator", &names)],
    })
}

/// Returns the program's token, the namespaces with their secrets, and the sites.
pub fn sites(git: &str, token: &str, secret: &str) -> Value {
    let object = |version: &str, kind: &str, namespace: &str, name: &str| {
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": { "namespace": namespace, "name": name },
        })
    };
    let secret_of = |namespace: &str, name: &str, key: &str, value: &str| {
        let mut secret = object("v1", "Secret", namespace, name);
        secret["stringData"] = json!({ key: value });
        secret
    };
    let mut items = vec![secret_of(NAMESPACE, "pages-token", "token", token)];
    let mut namespaces: Vec<&str> = SITES.iter().map(|site| site.namespace).collect();
    namespaces.dedup();
    for name in namespaces {
        items
            .push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        items.push(secret_of(name, WEBHOOK, "secret", secret));
    }
    for site in SITES {
        let mut made = object("pages.kiln.local/v1beta1", "StaticSite", site.namespace, site.name);
        made["metadata"]["annotations"] = json!({ "pages.kiln.local/webhook-secret": WEBHOOK });
        made["spec"] = json!({ "repo": format!("{git}/{}.git", site.name) });
        items.push(made);
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_site_follows_the_repository_of_its_name() {
        let made = sites("http://git.example", "token", "secret");
        let items = made["items"].as_array().unwrap();
        let found: Vec<&Value> = items.iter().filter(|item| item["kind"] == "StaticSite").collect();
        assert_eq!(found.len(), SITES.len());
        assert_eq!(found[2]["spec"]["repo"], "http://git.example/shop.git");
        assert_eq!(items.iter().filter(|item| item["kind"] == "Namespace").count(), 2);
        assert_eq!(SITES[0].host(), "blog.team-a.pages.localhost");
    }
}
