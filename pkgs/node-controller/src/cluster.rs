//! The watch of the Nodes.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node as Object;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};

use crate::context::Context;
use crate::node::Node;
use kiln_controller::fault::of_watch;

/// Keeps [`Context::nodes`] up to date, forever.
pub async fn watch_nodes(context: &Context) {
    let nodes: Api<Object> = Api::all(context.client.clone());
    let mut events = pin!(watcher(nodes, watcher::Config::default()).default_backoff());
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                context.status.works();
                apply(context, event, &mut listed);
            }
            Err(error) => context.status.fails("cannot watch the Nodes", &of_watch(&error)),
        }
    }
}

/// Applies an event. A new list counts when it is complete.
fn apply(context: &Context, event: Event<Object>, listed: &mut BTreeMap<String, Node>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            let node = reduced(&object);
            listed.insert(node.name.clone(), node);
        }
        Event::InitDone => {
            let old = std::mem::replace(&mut *context.nodes(), std::mem::take(listed));
            context.status.nodes_known();
            let new = context.nodes().clone();
            for name in old.keys().chain(new.keys()) {
                if old.get(name) != new.get(name) {
                    context.changed(name);
                }
            }
        }
        Event::Apply(object) => {
            let node = reduced(&object);
            let name = node.name.clone();
            let old = context.nodes().insert(name.clone(), node);
            if context.nodes().get(&name) != old.as_ref() {
                context.changed(&name);
            }
        }
        Event::Delete(object) => {
            let name = object.name_any();
            context.nodes().remove(&name);
            context.changed(&name);
        }
    }
}

/// Returns the parts of a Node that decisions need.
fn reduced(object: &Object) -> Node {
    let addresses = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.map(|address| (address.type_.as_str(), address.address.as_str()));
    Node::new(&object.name_any(), addresses).with_labels(object.metadata.labels.as_ref())
}
