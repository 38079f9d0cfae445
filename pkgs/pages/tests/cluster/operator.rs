//! The scenarios of the operator.

use kiln_test_support::program::Program;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use pages::api::Group;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answers;
use crate::rig::{NAMESPACE, Rig, condition, site, until};

const INGRESS: (&str, &str) = ("networking.k8s.io/v1", "Ingress");
const TRAEFIK: &str = "traefik.io/v1alpha1";

/// Refuses or accepts a site.
async fn check(rig: &Rig, object: &Value, refused: Option<&str>) {
    match (rig.try_apply(object).await, refused) {
        (Ok(_), None) => {}
        (Err(error), Some(expected)) => {
            let text = error.to_string();
            assert!(text.contains(expected), "{object:#}: {text}");
        }
        (Ok(_), Some(_)) => panic!("accepted: {object:#}"),
        (Err(error), None) => panic!("{object:#}: {error}"),
    }
}

pub async fn wrong_fields_are_refused_and_missing_ones_have_defaults(rig: &Rig) {
    rig.namespace("valid").await;
    let refused = [
        (json!({ "repo": "ftp://git.example/a" }), "spec.repo"),
        (json!({ "repo": "https://team.example:secret@git.example/a" }), "spec.repo"),
        (json!({ "repo": null }), "spec.repo"),
        (json!({ "branch": "-x" }), "branch must not start with -"),
        (json!({ "path": "dist" }), "spec.path"),
        (json!({ "path": "/a/../../etc" }), "path must not contain .."),
        (json!({ "path": "/.git" }), "path must not contain .. or .git"),
        (json!({ "pathPrefix": "/a" }), "pathPrefix needs a domain"),
        (json!({ "pathPrefix": "/a/../b", "domain": "a.example" }), "pathPrefix must not contain"),
        (json!({ "pathPrefix": "/a`)", "domain": "a.example" }), "spec.pathPrefix"),
        (json!({ "domain": "bücher.example" }), "spec.domain"),
        (json!({ "domain": "*.example" }), "spec.domain"),
        (json!({ "syncInterval": "soon" }), "spec.syncInterval"),
        (json!({ "secretRef": { "key": "x" } }), "secretRef.name"),
    ];
    for (spec, expected) in refused {
        check(rig, &site("valid", "refused", &spec), Some(expected)).await;
    }
    let object =
        rig.apply(site("valid", "defaults", &json!({ "secretRef": { "name": "s" } }))).await;
    let expected = json!({
        "repo": "https://git.example/team/site.git", "branch": "main", "path": "/",
        "syncInterval": "5m", "secretRef": { "name": "s", "key": "password" },
    });
    assert_eq!(object.data["spec"], expected);
}

pub async fn a_site_gets_an_address_and_an_ingress(rig: &Rig) {
    rig.namespace("team-a").await;
    rig.apply(site("team-a", "blog", &json!({}))).await;
    let found = rig.until_routed("team-a", "blog", "Routed").await;
    let status = &found.data["status"];
    assert_eq!(status["address"], json!({ "host": "blog.team-a.pages.test", "prefix": "" }));
    assert_eq!(status["url"], "https://blog.team-a.pages.test/");
    assert_eq!(condition(&found, "Ready")["reason"], "Pending");
    assert_eq!(condition(&found, "Routed")["observedGeneration"], 1);
    assert_eq!(found.metadata.finalizers, Some(vec!["pages.kiln.local/routes".to_owned()]));
    let ingress =
        rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE)).get("site.team-a.blog").await.unwrap();
    assert_eq!(ingress.data["spec"]["rules"][0]["host"], "blog.team-a.pages.test");
    // Another manager's fields of the status stay.
    let revision = json!({ "digest": "sha256:0", "commit": "abc", "time": "2026-01-01T00:00:00Z" });
    let synced = json!({ "type": "Synced", "status": "True", "reason": "Synced", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let patch = json!({
        "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
        "status": { "revision": revision, "conditions": [synced] },
    });
    let parameters = PatchParams::apply("pages-syncer").force();
    let sites = rig.sites("team-a");
    sites.patch_status("blog", &parameters, &Patch::Apply(&patch)).await.unwrap();
    until("the site is ready", async || {
        condition(&sites.get("blog").await.unwrap(), "Ready")["status"] == "True"
    })
    .await;
    let found = sites.get("blog").await.unwrap();
    assert_eq!(found.data["status"]["revision"]["commit"], "abc");
    assert_eq!(condition(&found, "Synced")["status"], "True");
    let events = rig.api("events.k8s.io/v1", "Event", Some("team-a"));
    let events = events.list(&ListParams::default()).await.unwrap();
    assert!(events.items.iter().any(|event| event.data["reason"] == "Routed"), "no event");
}

/// Sets the administrators' list.
pub async fn allow(rig: &Rig, entries: Value) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "pages-domains", "namespace": NAMESPACE }, "data": entries,
    });
    rig.apply(map).await;
}

pub async fn a_domain_needs_an_entry_in_the_list(rig: &Rig) {
    rig.apply(site("team-a", "shop", &json!({ "domain": "Shop.example" }))).await;
    let found = rig.until_routed("team-a", "shop", "DomainNotAllowed").await;
    assert!(found.data["status"].get("address").is_none());
    let message = condition(&found, "Routed")["message"].to_string();
    assert!(message.contains("_kiln-pages.shop.example TXT"), "{message}");
    allow(rig, json!({ "team-a": "shop.example" })).await;
    let found = rig.until_routed("team-a", "shop", "Routed").await;
    assert_eq!(found.data["status"]["address"]["host"], "shop.example");
    allow(rig, json!({ "team-b": "shop.example" })).await;
    rig.until_routed("team-a", "shop", "DomainNotAllowed").await;
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    until("the route is gone", async || {
        ingresses.get_opt("site.team-a.shop").await.unwrap().is_none()
    })
    .await;
}

pub async fn two_sites_want_one_address(rig: &Rig) {
    rig.namespace("team-b").await;
    allow(rig, json!({ "team-a": "both.example", "team-b": "both.example" })).await;
    rig.apply(site("team-a", "first", &json!({ "domain": "both.example" }))).await;
    rig.until_routed("team-a", "first", "Routed").await;
    rig.apply(site("team-b", "second", &json!({ "domain": "BOTH.example" }))).await;
    let second = rig.until_routed("team-b", "second", "AddressTaken").await;
    let message = condition(&second, "Routed")["message"].to_string();
    assert!(message.contains("belongs to team-a/first"), "{message}");
    let sites = rig.sites("team-a");
    until("the first one names the second", async || {
        let first = sites.get("first").await.unwrap();
        condition(&first, "Routed")["message"].to_string().contains("also wanted by team-b/second")
    })
    .await;
    // The route of the first one has not moved.
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    assert!(ingresses.get_opt("site.team-b.second").await.unwrap().is_none());
    sites.delete("first", &DeleteParams::default()).await.unwrap();
    rig.until_routed("team-b", "second", "Routed").await;
}

pub async fn an_object_of_another_program_stays(rig: &Rig) {
    let foreign = json!({
        "apiVersion": INGRESS.0, "kind": INGRESS.1,
        "metadata": { "name": "site.team-a.occupied", "namespace": NAMESPACE },
        "spec": { "defaultBackend": { "service": { "name": "theirs", "port": { "number": 1 } } } },
    });
    rig.apply(foreign).await;
    rig.apply(site("team-a", "occupied", &json!({}))).await;
    let found = rig.until_routed("team-a", "occupied", "RouteFailed").await;
    let message = condition(&found, "Routed")["message"].to_string();
    assert!(message.contains("exists without the label"), "{message}");
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    let found = ingresses.get("site.team-a.occupied").await.unwrap();
    assert_eq!(found.data["spec"]["defaultBackend"]["service"]["name"], "theirs");
    ingresses.delete("site.team-a.occupied", &DeleteParams::default()).await.unwrap();
    rig.until_routed("team-a", "occupied", "Routed").await;
}

pub async fn a_changed_route_is_mended(rig: &Rig) {
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    let host = "blog.team-a.pages.test";
    let patch = json!([{ "op": "replace", "path": "/spec/rules/0/host", "value": "evil.example" }]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch).unwrap());
    ingresses.patch("site.team-a.blog", &PatchParams::default(), &patch).await.unwrap();
    let is_right = async || {
        let found = ingresses.get_opt("site.team-a.blog").await.unwrap();
        found.is_some_and(|found| found.data["spec"]["rules"][0]["host"] == host)
    };
    until("the host is right again", is_right).await;
    ingresses.delete("site.team-a.blog", &DeleteParams::default()).await.unwrap();
    until("the route is back", is_right).await;
}

pub async fn a_deleted_site_leaves_nothing(rig: &Rig) {
    let sites = rig.sites("team-a");
    sites.delete("blog", &DeleteParams::default()).await.unwrap();
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    until("the site is gone", async || sites.get_opt("blog").await.unwrap().is_none()).await;
    assert!(ingresses.get_opt("site.team-a.blog").await.unwrap().is_none(), "the route goes first");
}

pub async fn sites_of_kup6s_pages_work_unchanged(rig: &Rig) {
    // From the project's manual, with the finalizer that its operator adds.
    let object = json!({
        "apiVersion": "pages.kup6s.com/v1beta1", "kind": "StaticSite",
        "metadata": { "name": "my-website", "namespace": "team-b",
                      "finalizers": ["pages.kup6s.com/finalizer"] },
        "spec": { "repo": "https://github.com/user/my-website.git",
                  "secretRef": { "name": "my-repo-token" } },
    });
    rig.apply(object).await;
    let sites = rig.api(&Group::Kup6s.api_version(), "StaticSite", Some("team-b"));
    until("the site is routed", async || {
        let found = sites.get("my-website").await.unwrap();
        found.data["status"]["url"] == "https://my-website.pages.test/"
    })
    .await;
    let old = rig.api("pages.kup6s.com/v1alpha1", "StaticSite", Some("team-b"));
    assert_eq!(old.get("my-website").await.unwrap().data["spec"]["secretRef"]["key"], "password");
    sites.delete("my-website", &DeleteParams::default()).await.unwrap();
    until("the site is gone", async || sites.get_opt("my-website").await.unwrap().is_none()).await;
}

pub async fn a_site_that_was_deleted_meanwhile_is_cleaned_up(rig: &mut Rig) {
    rig.apply(site("team-a", "gone", &json!({}))).await;
    rig.until_routed("team-a", "gone", "Routed").await;
    let mut operator = rig.operator.take().unwrap();
    operator.signal(Signal::KILL);
    operator.wait();
    let sites = rig.sites("team-a");
    sites.delete("gone", &DeleteParams::default()).await.unwrap();
    assert!(sites.get_opt("gone").await.unwrap().is_some(), "the finalizer keeps it");
    rig.run(&[]);
    until("the site is gone", async || sites.get_opt("gone").await.unwrap().is_none()).await;
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    assert!(ingresses.get_opt("site.team-a.gone").await.unwrap().is_none());
}

pub async fn a_second_replica_takes_over(rig: &mut Rig) {
    let second = Program::start(rig.command(&["--identity=second"]));
    second.until_log("started");
    rig.stop();
    second.until_log("leads");
    rig.operator = Some(second);
    rig.apply(site("team-a", "after", &json!({}))).await;
    rig.until_routed("team-a", "after", "Routed").await;
}

/// A definition of an API that the operator uses, with any content.
fn definition(group: &str, version: &str, kind: &str, plural: &str) -> Value {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            // Without it the group is refused as one of Kubernetes' own.
            "annotations": { "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api" },
        },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
            "versions": [{ "name": version, "served": true, "storage": true, "schema": {
                "openAPIV3Schema": { "type": "object", "properties": { "spec": any, "status": any } } },
                "subresources": { "status": {} } }],
        },
    })
}

pub async fn routes_follow_the_served_apis(rig: &mut Rig) {
    answers::an_ingress_shows_its_address(rig, "site.team-a.after").await;
    for [group, version, kind, plural] in [
        ["traefik.io", "v1alpha1", "Middleware", "middlewares"],
        ["cert-manager.io", "v1", "Certificate", "certificates"],
        ["traefik.io", "v1alpha1", "IngressRoute", "ingressroutes"],
    ] {
        rig.define(definition(group, version, kind, plural)).await;
    }
    // The running operator notices them.
    let routes = rig.api(TRAEFIK, "IngressRoute", Some(NAMESPACE));
    let ingresses = rig.api(INGRESS.0, INGRESS.1, Some(NAMESPACE));
    let all = ListParams::default();
    until("Traefik's routes replace the Ingresses", async || {
        let ingresses = ingresses.list(&all).await.unwrap().items;
        routes.get_opt("site.team-a.after").await.unwrap().is_some() && ingresses.is_empty()
    })
    .await;
    rig.run(&["--issuer=letsencrypt"]);
    let certificates = rig.api("cert-manager.io/v1", "Certificate", Some(NAMESPACE));
    until("there is a certificate", async || {
        certificates.get_opt("tls.after.team-a.pages.test").await.unwrap().is_some()
    })
    .await;
    let object = "tls.after.team-a.pages.test";
    answers::a_certificate_that_is_not_ready_is_named(rig, &certificates, object).await;
    until("HTTP is redirected", async || {
        routes.get_opt("redirect.team-a.after").await.unwrap().is_some()
    })
    .await;
    rig.define(definition("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")).await;
    rig.run(&["--gateway=edge/public"]);
    let routes = rig.api("gateway.networking.k8s.io/v1", "HTTPRoute", Some(NAMESPACE));
    until("the Gateway API's routes are there, and no certificate", async || {
        let certificates = certificates.list(&all).await.unwrap().items;
        routes.get_opt("site.team-a.after").await.unwrap().is_some() && certificates.is_empty()
    })
    .await;
    answers::a_gateway_confirms_or_refuses_a_route(rig, &routes, "site.team-a.after").await;
    rig.run(&["--routes=file"]);
    let maps = rig.api("v1", "ConfigMap", Some(NAMESPACE));
    until("the route file has the host", async || {
        let found = maps.get_opt("pages-routes").await.unwrap();
        found.is_some_and(|map| {
            map.data["data"]["gateway.toml"].to_string().contains("after.team-a")
        })
    })
    .await;
    rig.run(&["--routes=none"]);
    until("no route is left", async || {
        let routes = routes.list(&all).await.unwrap().items;
        routes.is_empty() && maps.get_opt("pages-routes").await.unwrap().is_none()
    })
    .await;
}
