//! Manifests with the fields and the combinations that kup6s-pages' manual and tests have.

use kube::api::{Api, DeleteParams, DynamicObject};
use pages::api::Group;
use serde_json::{Value, json};

use crate::operator::allow;
use crate::rig::{NAMESPACE, Rig, condition, until};

/// The namespace of the sites.
const TEAM: &str = "team-older";

fn object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": Group::Kup6s.api_version(), "kind": "StaticSite",
        "metadata": { "name": name, "namespace": TEAM }, "spec": spec,
    })
}

fn sites(rig: &Rig) -> Api<DynamicObject> {
    rig.api(&Group::Kup6s.api_version(), "StaticSite", Some(TEAM))
}

/// Applies a site, and waits for its URL.
async fn check(rig: &Rig, name: &str, spec: Value, url: &str) {
    rig.apply(object(name, &spec)).await;
    until(&format!("{name} has the URL {url}"), async || {
        sites(rig).get(name).await.unwrap().data["status"]["url"] == url
    })
    .await;
}

pub async fn their_manifests_have_their_effect(rig: &Rig) {
    rig.namespace(TEAM).await;
    allow(rig, json!({ TEAM: "older.example *.older.example" })).await;
    let repo = "https://git.example/org/website.git";
    let generated = json!({ "repo": repo });
    check(rig, "project", generated, "https://project.pages.test/").await;
    let built = json!({
        "repo": repo, "branch": "main", "path": "/dist", "domain": "docs.older.example",
        "syncInterval": "10m",
    });
    check(rig, "docs", built, "https://docs.older.example/").await;
    let private = json!({
        "repo": repo, "domain": "internal.older.example",
        "secretRef": { "name": "repo-token", "key": "password" },
    });
    check(rig, "internal", private, "https://internal.older.example/").await;
    for (name, domain) in [("site-www", "www.older.example"), ("site-apex", "older.example")] {
        let spec = json!({ "repo": repo, "domain": domain });
        check(rig, name, spec, &format!("https://{domain}/")).await;
    }
    for year in ["2019", "2020"] {
        let prefix = format!("/{year}");
        let spec = json!({ "repo": repo, "domain": "www.older.example", "pathPrefix": prefix });
        let url = format!("https://www.older.example/{year}/");
        check(rig, &format!("archive-{year}"), spec, &url).await;
    }
    long_names_stay_apart(rig).await;
    // Their definition accepts it, and their operator refuses it.
    rig.apply(object("alone", &json!({ "repo": repo, "pathPrefix": "/x" }))).await;
    until("the prefix without a domain is refused", async || {
        condition(&sites(rig).get("alone").await.unwrap(), "Routed")["reason"] == "Invalid"
    })
    .await;
    sites(rig).delete("alone", &DeleteParams::default()).await.unwrap();
    the_last_site_of_a_domain_takes_its_route_along(rig).await;
}

/// That project cuts names after 63 bytes, where these two are equal.
async fn long_names_stay_apart(rig: &Rig) {
    let start = "a".repeat(70);
    let ingresses = rig.api("networking.k8s.io/v1", "Ingress", Some(NAMESPACE));
    for end in ["one", "two"] {
        let (name, domain) = (format!("{start}-{end}"), format!("{end}.older.example"));
        let spec = json!({ "repo": "https://git.example/o/w.git", "domain": domain });
        check(rig, &name, spec, &format!("https://{domain}/")).await;
        let route = ingresses.get(&format!("site.{TEAM}.{name}")).await.unwrap();
        assert_eq!(route.data["spec"]["rules"][0]["host"], domain);
    }
}

async fn the_last_site_of_a_domain_takes_its_route_along(rig: &Rig) {
    let ingresses = rig.api("networking.k8s.io/v1", "Ingress", Some(NAMESPACE));
    for site in sites(rig).list(&kube::api::ListParams::default()).await.unwrap().items {
        assert_eq!(condition(&site, "Routed")["reason"], "Routed");
        let name = site.metadata.name.unwrap();
        sites(rig).delete(&name, &DeleteParams::default()).await.unwrap();
        until(&format!("{name} is gone"), async || {
            sites(rig).get_opt(&name).await.unwrap().is_none()
        })
        .await;
        let route = ingresses.get_opt(&format!("site.{TEAM}.{name}")).await.unwrap();
        assert!(route.is_none(), "the route of {name}");
    }
}
