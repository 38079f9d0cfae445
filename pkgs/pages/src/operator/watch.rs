//! The watches of sites and of the list of domains.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};

use super::calls::Calls;
use crate::api::Group;
use crate::routing::kind::Kind;

/// The `ConfigMap` with the domains of each namespace.
pub const DOMAINS: &str = "pages-domains";

/// A change in the cluster.
pub enum Change {
    /// Of a site.
    Site(Group, Box<watcher::Result<Event<DynamicObject>>>),
    /// Of an object that the operator has made.
    Object(Kind, Box<watcher::Result<Event<DynamicObject>>>),
    /// Of the list of domains: its data, or nothing without the object.
    Domains(watcher::Result<Option<BTreeMap<String, String>>>),
}

/// The changes of several watches.
pub type Changes = SelectAll<BoxStream<'static, Change>>;

/// Watches the sites of some groups, the operator's objects of some kinds, and the list of domains in a
/// namespace.
pub fn changes(
    client: &Client,
    calls: &Calls,
    groups: &[Group],
    kinds: &[Kind],
    namespace: &str,
) -> Changes {
    let sites = groups.iter().map(|group| sites(client, *group));
    let objects = kinds.iter().map(|kind| objects(calls, *kind));
    select_all(sites.chain(objects).chain([domains(client, namespace)]))
}

fn objects(calls: &Calls, kind: Kind) -> BoxStream<'static, Change> {
    calls.watch(kind).map(move |event| Change::Object(kind, Box::new(event))).boxed()
}

fn sites(client: &Client, group: Group) -> BoxStream<'static, Change> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &group.resource());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    events.map(move |event| Change::Site(group, Box::new(event))).boxed()
}

fn domains(client: &Client, namespace: &str) -> BoxStream<'static, Change> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={DOMAINS}"));
    let mut found = None;
    let events = watcher(api, config).default_backoff();
    events
        .filter_map(move |event| {
            std::future::ready(match event {
                Ok(Event::Init) => {
                    found = None;
                    None
                }
                Ok(Event::InitApply(map)) => {
                    found = Some(map.data.unwrap_or_default());
                    None
                }
                Ok(Event::InitDone) => Some(Ok(found.take())),
                Ok(Event::Apply(map)) => Some(Ok(Some(map.data.unwrap_or_default()))),
                Ok(Event::Delete(_)) => Some(Ok(None)),
                Err(error) => Some(Err(error)),
            })
        })
        .map(Change::Domains)
        .boxed()
}
