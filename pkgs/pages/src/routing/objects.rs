//! The objects themselves, as JSON for server-side apply.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::kind::Kind;
use super::target::Target;
use crate::ownership::claim::SiteId;
use crate::table::Address;

/// The label of every object that the operator makes, and its value.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "pages-operator");

/// The annotation with the site of a route, as `NAMESPACE/NAME`, also of a preview's route.
pub const SITE: &str = "pages.kiln.local/site";

/// The name of the middleware that redirects to HTTPS.
pub const REDIRECT: &str = "pages-to-https";

/// The name of the `ConfigMap` with the route file.
pub const FILE: &str = "pages-routes";

/// The key of the route file in its `ConfigMap`.
pub const FILE_KEY: &str = "gateway.toml";

/// The most bytes of an object's name.
const NAME_BYTES_MAX: usize = 253;

/// Returns the name of an object: the parts joined by dots, shortened with a hash if it is too long.
///
/// The first part is a word for the use, so that no two uses meet in one name.
#[must_use]
pub fn name(parts: &[&str]) -> String {
    let whole = parts.join(".");
    if whole.len() <= NAME_BYTES_MAX {
        return whole;
    }
    let hash = Sha256::digest(&whole);
    let hash: String = hash.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let start = whole[..NAME_BYTES_MAX - 33].trim_end_matches(['.', '-']);
    format!("{start}.{hash}")
}

/// Returns the name of a site's route, or of a preview's.
#[must_use]
pub fn route_name(site: &SiteId) -> String {
    named(["site", "preview"], site)
}

/// Returns the name of an object of a site, which begins with the first word, or of a preview.
fn named([word, of_preview]: [&str; 2], site: &SiteId) -> String {
    let key = &site.key;
    match key.preview() {
        None => name(&[word, key.namespace(), key.name()]),
        Some(label) => name(&[of_preview, label, key.namespace(), key.name()]),
    }
}

/// Returns the name of a host's certificate and of its Secret.
#[must_use]
pub fn certificate_name(host: &str) -> String {
    name(&["tls", host])
}

/// Returns an object without its content.
fn object(target: &Target, kind: Kind, name: &str) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "metadata": {
            "name": name,
            "namespace": target.namespace,
            "labels": { LABEL.0: LABEL.1, "app.kubernetes.io/part-of": "pages" },
        },
    })
}

/// Returns the object of one site.
fn of_site(target: &Target, kind: Kind, name: &str, site: &SiteId, spec: &Value) -> Value {
    let mut object = object(target, kind, name);
    object["metadata"]["annotations"] = json!({ SITE: site.key.site().to_string() });
    object["spec"] = spec.clone();
    object
}

/// Returns the path of an address in a rule: never empty.
fn path(address: &Address) -> &str {
    if address.prefix.is_empty() { "/" } else { &address.prefix }
}

/// A route of the Gateway API. `PathPrefix` compares whole segments (`HTTPPathMatch`).
#[must_use]
pub fn http_route(target: &Target, site: &SiteId, address: &Address) -> Value {
    let parents: Vec<Value> = target
        .gateway
        .iter()
        .map(|gateway| {
            let mut parent = json!({
                "group": Kind::HttpRoute.group(), "kind": "Gateway",
                "namespace": gateway.namespace, "name": gateway.name,
            });
            if let Some(section) = &gateway.section {
                parent["sectionName"] = json!(section);
            }
            parent
        })
        .collect();
    let spec = json!({
        "parentRefs": parents,
        "hostnames": [address.host],
        "rules": [{
            "matches": [{ "path": { "type": "PathPrefix", "value": path(address) } }],
            "backendRefs": [{ "name": target.service, "port": target.port }],
        }],
    });
    of_site(target, Kind::HttpRoute, &route_name(site), site, &spec)
}

/// An Ingress. `Prefix` compares whole segments.
#[must_use]
pub fn ingress(target: &Target, site: &SiteId, address: &Address, secret: Option<&str>) -> Value {
    let mut spec = json!({
        "rules": [{ "host": address.host, "http": { "paths": [{
            "path": path(address),
            "pathType": "Prefix",
            "backend": { "service": { "name": target.service, "port": { "number": target.port } } },
        }] } }],
    });
    if let Some(class) = &target.ingress_class {
        spec["ingressClassName"] = json!(class);
    }
    if let Some(secret) = secret {
        spec["tls"] = json!([{ "hosts": [address.host], "secretName": secret }]);
    }
    of_site(target, Kind::Ingress, &route_name(site), site, &spec)
}

/// Traefik's rule for an address. Its `PathPrefix` compares characters, so a slash ends the prefix.
#[must_use]
pub fn rule(address: &Address) -> String {
    // Host and prefix have no backquote: `ownership::name` allows few characters.
    let Address { host, prefix } = address;
    match prefix.as_str() {
        "" => format!("Host(`{host}`)"),
        _ => format!("Host(`{host}`) && (Path(`{prefix}`) || PathPrefix(`{prefix}/`))"),
    }
}

/// A route of Traefik: with a certificate for HTTPS, without one for HTTP.
#[must_use]
pub fn ingress_route(
    target: &Target,
    site: &SiteId,
    address: &Address,
    secret: Option<&str>,
) -> Value {
    let mut spec = json!({
        "entryPoints": [if secret.is_some() { "websecure" } else { "web" }],
        "routes": [{
            "kind": "Rule",
            "match": rule(address),
            "services": [{ "kind": "Service", "name": target.service, "port": target.port }],
        }],
    });
    if let Some(secret) = secret {
        spec["tls"] = json!({ "secretName": secret });
    }
    of_site(target, Kind::IngressRoute, &route_name(site), site, &spec)
}

/// Traefik's route that redirects to HTTPS.
#[must_use]
pub fn redirect_route(target: &Target, site: &SiteId, address: &Address) -> Value {
    let name = named(["redirect", "preview-redirect"], site);
    let spec = json!({
        "entryPoints": ["web"],
        "routes": [{
            "kind": "Rule",
            "match": rule(address),
            "middlewares": [{ "name": REDIRECT }],
            "services": [{ "kind": "Service", "name": target.service, "port": target.port }],
        }],
    });
    of_site(target, Kind::IngressRoute, &name, site, &spec)
}

/// Traefik's middleware that redirects to HTTPS.
#[must_use]
pub fn middleware(target: &Target) -> Value {
    let mut object = object(target, Kind::Middleware, REDIRECT);
    object["spec"] = json!({ "redirectScheme": { "scheme": "https", "permanent": true } });
    object
}

/// A certificate of cert-manager for one host.
#[must_use]
pub fn certificate(target: &Target, host: &str, issuer: &str) -> Value {
    let name = certificate_name(host);
    let mut object = object(target, Kind::Certificate, &name);
    object["spec"] = json!({
        "secretName": name,
        "dnsNames": [host],
        "issuerRef": { "group": "cert-manager.io", "kind": "ClusterIssuer", "name": issuer },
    });
    object
}

/// The route file of Kiln's gateway: its form with two tables (docs/gateway.md).
#[must_use]
pub fn route_file<'a>(target: &Target, hosts: impl Iterator<Item = &'a str>) -> Value {
    let Target { namespace, service, port, .. } = target;
    let mut text = "# Made by `pages operator`.\n[http_backends]\n".to_owned();
    for host in hosts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\"{host}\" = \"{service}.{namespace}.svc:{port}\"");
    }
    let mut object = object(target, Kind::RouteFile, FILE);
    object["data"] = json!({ FILE_KEY: text });
    object
}
