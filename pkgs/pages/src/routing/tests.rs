use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::choice::{Served, Way};
use super::kind::Kind;
use super::objects::{self, FILE, LABEL};
use super::target::{Gateway, Target, Wildcard};
use super::{ObjectKey, Objects, desired};
use crate::api::Group;
use crate::ownership::claim::SiteId;
use crate::table::Address;

fn target() -> Target {
    let gateway =
        Gateway { namespace: "edge".to_owned(), name: "public".to_owned(), section: None };
    let wildcard = Wildcard { domain: "pages.test".to_owned(), secret: "wild".to_owned() };
    Target {
        namespace: "kiln-pages".to_owned(),
        service: "pages-serve".to_owned(),
        port: 80,
        gateway: Some(gateway),
        ingress_class: Some("nginx".to_owned()),
        issuer: Some("letsencrypt".to_owned()),
        wildcard: Some(wildcard),
    }
}

fn sites(list: &[(&str, &str, &str)]) -> BTreeMap<SiteId, Address> {
    let site = |(key, host, prefix): &(&str, &str, &str)| {
        let id = SiteId { key: key.parse().unwrap(), group: Group::Kiln };
        (id, Address { host: (*host).to_owned(), prefix: (*prefix).to_owned() })
    };
    list.iter().map(site).collect()
}

fn made(way: Way, list: &[(&str, &str, &str)]) -> Objects {
    desired(&sites(list), &target(), Some(way), &Served(Kind::ALL.into()), |_, _| None)
}

fn spec(objects: &Objects, kind: Kind, name: &str) -> Value {
    objects[&ObjectKey { kind, name: name.to_owned() }].body()["spec"].clone()
}

fn names(objects: &Objects) -> Vec<String> {
    objects.keys().map(|key| format!("{} {}", key.kind.name(), key.name)).collect()
}

#[test]
fn a_route_of_the_gateway_api() {
    let objects = made(Way::HttpRoute, &[("team/blog", "a.test.example", "/2019")]);
    let expected = json!({
        "parentRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway",
                         "namespace": "edge", "name": "public" }],
        "hostnames": ["a.test.example"],
        "rules": [{
            "matches": [{ "path": { "type": "PathPrefix", "value": "/2019" } }],
            "backendRefs": [{ "name": "pages-serve", "port": 80 }],
        }],
    });
    assert_eq!(spec(&objects, Kind::HttpRoute, "site.team.blog"), expected);
    assert_eq!(objects.len(), 1, "the Gateway has the certificates");
}

#[test]
fn an_ingress_with_a_certificate_that_two_sites_share() {
    let list = [("team/blog", "a.example", ""), ("team/docs", "a.example", "/docs")];
    let objects = made(Way::Ingress, &list);
    let expected =
        ["Certificate tls.a.example", "Ingress site.team.blog", "Ingress site.team.docs"];
    assert_eq!(names(&objects), expected);
    let docs = spec(&objects, Kind::Ingress, "site.team.docs");
    assert_eq!(docs["rules"][0]["http"]["paths"][0]["path"], "/docs");
    assert_eq!(docs["rules"][0]["http"]["paths"][0]["pathType"], "Prefix");
    assert_eq!(docs["tls"], json!([{ "hosts": ["a.example"], "secretName": "tls.a.example" }]));
    let certificate = ObjectKey { kind: Kind::Certificate, name: "tls.a.example".to_owned() };
    assert_eq!(objects[&certificate].sites.len(), 2);
}

#[test]
fn traefik_gets_a_route_and_a_redirect_where_there_is_a_certificate() {
    let objects = made(Way::Traefik, &[("team/blog", "blog.pages.test", "/a")]);
    let expected = [
        "Middleware pages-to-https",
        "IngressRoute redirect.team.blog",
        "IngressRoute site.team.blog",
    ];
    assert_eq!(names(&objects), expected);
    let route = spec(&objects, Kind::IngressRoute, "site.team.blog");
    let rule = "Host(`blog.pages.test`) && (Path(`/a`) || PathPrefix(`/a/`))";
    assert_eq!(route["routes"][0]["match"], rule);
    assert_eq!(route["tls"], json!({ "secretName": "wild" }));
    let none = Target { issuer: None, wildcard: None, ..target() };
    let list = sites(&[("team/blog", "a.example", "")]);
    let objects = desired(&list, &none, Some(Way::Traefik), &Served(Kind::ALL.into()), |_, _| None);
    assert_eq!(names(&objects), ["IngressRoute site.team.blog"]);
    assert_eq!(spec(&objects, Kind::IngressRoute, "site.team.blog")["entryPoints"], json!(["web"]));
}

#[test]
fn a_wildcard_covers_one_label_and_a_missing_cert_manager_makes_no_certificate() {
    let served = Served::default();
    for (host, secret) in [("a.pages.test", true), ("a.b.pages.test", false), ("pages.test", false)]
    {
        let list = sites(&[("team/blog", host, "")]);
        let objects = desired(&list, &target(), Some(Way::Ingress), &served, |_, _| None);
        let has = spec(&objects, Kind::Ingress, "site.team.blog")["tls"].is_array();
        assert_eq!(has, secret, "{host}");
    }
}

#[test]
fn the_route_file_names_each_host_once() {
    let list = [("a/x", "b.example", ""), ("a/y", "b.example", "/y"), ("a/z", "a.example", "")];
    let objects = made(Way::File, &list);
    let key = ObjectKey { kind: Kind::RouteFile, name: FILE.to_owned() };
    let body = objects[&key].body();
    let text = body["data"]["gateway.toml"].as_str().unwrap();
    let expected = "# Made by `pages operator`.\n[http_backends]\n\
                    \"a.example\" = \"pages-serve.kiln-pages.svc:80\"\n\
                    \"b.example\" = \"pages-serve.kiln-pages.svc:80\"\n";
    assert_eq!(text, expected);
    assert_eq!(objects[&key].sites.len(), 3);
}

#[test]
fn every_object_is_in_the_namespace_of_the_server_and_has_the_label() {
    for way in [Way::HttpRoute, Way::Ingress, Way::Traefik, Way::File] {
        for wanted in made(way, &[("team/blog", "a.example", "")]).values() {
            let body = wanted.body();
            let metadata = &body["metadata"];
            assert_eq!(metadata["namespace"], "kiln-pages");
            assert_eq!(metadata["labels"][LABEL.0], LABEL.1);
        }
    }
    assert!(
        desired(
            &sites(&[("a/b", "c.example", "")]),
            &target(),
            None,
            &Served::default(),
            |_, _| None
        )
        .is_empty()
    );
}

#[test]
fn names_of_objects_are_valid_and_differ() {
    assert_ne!(objects::name(&["site", "a", "b.c"]), objects::name(&["site", "a.b", "d"]));
    let long = "x".repeat(253);
    let (one, two) = (objects::name(&["site", "a", &long]), objects::name(&["site", "b", &long]));
    assert!(one != two && one.len() <= 253 && two.len() <= 253);
    let dotted = format!("{}.{}", "x".repeat(211), "y".repeat(40));
    let name = objects::name(&["site", "a", &dotted]);
    assert!(name.split('.').all(|label| !label.is_empty() && !label.ends_with('-')), "{name}");
}
