//! The routes that should exist, from the addresses of the sites. Pure.
//!
//! All routes are in the namespace of the server, because a route may only name a Service of its own
//! namespace, and because no tenant has rights there. A route therefore has no owner reference, which
//! cannot cross namespaces; the operator finds its objects by a label, deletes those that no site
//! needs, and never touches an object without the label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub mod answer;
pub mod choice;
pub mod kind;
pub mod objects;
pub mod target;

use choice::{Served, Way};
use kind::Kind;
use target::{Target, Wildcard};

use crate::ownership::claim::SiteId;
use crate::ownership::name::is_below;
use crate::table::Address;

/// The name of an object that the operator makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its name, in the namespace of the server.
    pub name: String,
}

/// An object that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The object for server-side apply, as JSON: the text takes a tenth of a tree's memory.
    body: Arc<str>,
    /// The hash of the object.
    pub hash: [u8; 32],
    /// The sites that need it.
    pub sites: BTreeSet<SiteId>,
}

/// All objects that should exist.
pub type Objects = BTreeMap<ObjectKey, Wanted>;

impl Wanted {
    fn new(body: &Value) -> Self {
        let body = body.to_string();
        Self { hash: Sha256::digest(&body).into(), body: body.into(), sites: BTreeSet::new() }
    }

    /// Returns the object, for server-side apply.
    #[must_use]
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Returns the objects for all sites that have an address.
///
/// `before` returns the objects of a site from an earlier call with the same target, way and served APIs, if
/// its address is the same.
#[must_use]
pub fn desired<'a>(
    sites: &BTreeMap<SiteId, Address>,
    target: &Target,
    way: Option<Way>,
    served: &Served,
    before: impl Fn(&SiteId, &Address) -> Option<Vec<(&'a ObjectKey, &'a Wanted)>>,
) -> Objects {
    let mut made = Maker { target, served, objects: Objects::new() };
    match way {
        None => {}
        Some(Way::File) => made.file(sites),
        Some(way) => {
            for (site, address) in sites {
                match before(site, address) {
                    Some(objects) => made.again(site, objects),
                    None => made.site(way, site, address),
                }
            }
        }
    }
    made.objects
}

struct Maker<'a> {
    target: &'a Target,
    served: &'a Served,
    objects: Objects,
}

impl Maker<'_> {
    fn site(&mut self, way: Way, site: &SiteId, address: &Address) {
        let target = self.target;
        let secret = if way == Way::HttpRoute { None } else { self.secret(site, &address.host) };
        let secret = secret.as_deref();
        match way {
            Way::HttpRoute => {
                self.add(Kind::HttpRoute, site, &objects::http_route(target, site, address));
            }
            Way::Ingress => {
                self.add(Kind::Ingress, site, &objects::ingress(target, site, address, secret));
            }
            Way::Traefik => {
                let route = objects::ingress_route(target, site, address, secret);
                self.add(Kind::IngressRoute, site, &route);
                if secret.is_some() {
                    self.add(Kind::Middleware, site, &objects::middleware(target));
                    let redirect = objects::redirect_route(target, site, address);
                    self.add(Kind::IngressRoute, site, &redirect);
                }
            }
            Way::File => {}
        }
    }

    /// Returns the Secret with the certificate of a host, and makes the certificate.
    fn secret(&mut self, site: &SiteId, host: &str) -> Option<String> {
        if let Some(Wildcard { domain, secret }) = &self.target.wildcard {
            let label = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
            if is_below(host, domain) && label.is_some_and(|label| !label.contains('.')) {
                return Some(secret.clone());
            }
        }
        let issuer = self.target.issuer.as_ref().filter(|_| self.served.has(Kind::Certificate))?;
        self.add(Kind::Certificate, site, &objects::certificate(self.target, host, issuer));
        Some(objects::certificate_name(host))
    }

    fn file(&mut self, sites: &BTreeMap<SiteId, Address>) {
        let hosts: BTreeSet<&str> = sites.values().map(|address| address.host.as_str()).collect();
        let body = objects::route_file(self.target, hosts.into_iter());
        let key = ObjectKey { kind: Kind::RouteFile, name: objects::FILE.to_owned() };
        let sites = sites.keys().cloned().collect();
        self.objects.insert(key, Wanted { sites, ..Wanted::new(&body) });
    }

    fn add(&mut self, kind: Kind, site: &SiteId, body: &Value) {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let wanted = self.objects.entry(ObjectKey { kind, name });
        let wanted = wanted.or_insert_with(|| Wanted::new(body));
        wanted.sites.insert(site.clone());
    }

    /// Adds objects that were made before.
    fn again(&mut self, site: &SiteId, objects: Vec<(&ObjectKey, &Wanted)>) {
        for (key, old) in objects {
            let wanted = self.objects.entry(key.clone()).or_insert_with(|| Wanted {
                body: old.body.clone(),
                hash: old.hash,
                sites: BTreeSet::new(),
            });
            wanted.sites.insert(site.clone());
        }
    }
}

#[cfg(test)]
mod tests;
