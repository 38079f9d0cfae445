//! The calls to the API server. Each is one request with a deadline; none decides.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, Preconditions,
};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events;
use kube::runtime::events::{EventType, Recorder, Reporter};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::seen::Seen;
use crate::api::{Group, KIND, PLURAL};
use crate::cluster::CALL_MAX;
use crate::ownership::claim::SiteId;
use crate::routing::ObjectKey;
use crate::routing::choice::Served;
use crate::routing::kind::Kind;
use crate::routing::objects::LABEL;
use kiln_controller::fault::plain;

/// The field manager of everything that the operator writes.
pub const MANAGER: &str = "pages-operator";

/// The calls of the operator.
pub struct Calls {
    client: Client,
    namespace: String,
    recorder: Recorder,
}

/// An object that the operator has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The object's uid.
    pub uid: Option<String>,
    /// The generation of its specification, or its version if it has no generation. It differs after
    /// another program's change.
    pub generation: String,
    /// The site of the object, as `NAMESPACE/NAME`.
    pub site: Option<String>,
}

impl Made {
    /// Reads the facts from an object's metadata.
    #[must_use]
    pub fn new(metadata: &ObjectMeta) -> Self {
        let generation = metadata.generation.map(|generation| generation.to_string());
        let site = metadata.annotations.as_ref();
        Self {
            uid: metadata.uid.clone(),
            generation: generation
                .or_else(|| metadata.resource_version.clone())
                .unwrap_or_default(),
            site: site.and_then(|it| it.get(crate::routing::objects::SITE)).cloned(),
        }
    }
}

fn is_ours(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(LABEL.0)).is_some_and(|value| value == LABEL.1)
}

impl Calls {
    /// Creates the calls for objects in a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, namespace: namespace.to_owned(), recorder }
    }

    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    fn sites(&self, site: &SiteId) -> Api<DynamicObject> {
        let resource = site.group.resource();
        Api::namespaced_with(self.client.clone(), site.key.namespace(), &resource)
    }

    /// Returns the kinds of routes and the groups of sites that the cluster serves.
    pub async fn discover(&self) -> Result<(Served, Vec<Group>)> {
        let mut served = Served::default();
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_built_in()) {
            if self.plurals(&kind.api_version()).await?.contains(kind.plural()) {
                served.0.insert(kind);
            }
        }
        let mut groups = Vec::new();
        for group in Group::ALL {
            if self.plurals(&group.api_version()).await?.contains(PLURAL) {
                groups.push(group);
            }
        }
        Ok((served, groups))
    }

    async fn plurals(&self, version: &str) -> Result<BTreeSet<String>> {
        match within(self.client.list_api_group_resources(version)).await? {
            Ok(list) => Ok(list.resources.into_iter().map(|resource| resource.name).collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeSet::new()),
            Err(error) => Err(plain(&error)).with_context(|| format!("cannot discover {version}")),
        }
    }

    /// Returns the watch of the objects of a kind that have the operator's label.
    #[must_use]
    pub fn watch(&self, kind: Kind) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
        let ours = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        watcher(self.objects(kind), ours).default_backoff().boxed()
    }

    /// Returns the objects of a kind that have the operator's label.
    pub async fn list(&self, kind: Kind) -> Result<Vec<(ObjectKey, Made)>> {
        let ours = ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        let objects = self.objects(kind);
        let list = within(objects.list_metadata(&ours)).await?.map_err(|error| plain(&error));
        let list = list.with_context(|| format!("cannot list {}", kind.plural()))?;
        let named = list.items.into_iter().map(|object| {
            let name = object.metadata.name.clone().unwrap_or_default();
            (ObjectKey { kind, name }, Made::new(&object.metadata))
        });
        Ok(named.collect())
    }

    /// Applies an object. Reads an unknown object first, because a route never replaces an object of
    /// another program.
    pub async fn apply(&self, key: &ObjectKey, body: &Value, is_known: bool) -> Result<Made> {
        let objects = self.objects(key.kind);
        if !is_known {
            let found = within(objects.get_metadata_opt(&key.name)).await?;
            let found = found.map_err(|error| plain(&error))?;
            if found.is_some_and(|object| !is_ours(&object.metadata)) {
                bail!(
                    "an object of this name exists without the label {}={}; delete it",
                    LABEL.0,
                    LABEL.1
                );
            }
        }
        let parameters = PatchParams::apply(MANAGER).force();
        let result = within(objects.patch(&key.name, &parameters, &Patch::Apply(body))).await?;
        result.map(|object| Made::new(&object.metadata)).map_err(|error| plain(&error))
    }

    /// Deletes an object that was made, unless another one has its name by now.
    pub async fn delete(&self, key: &ObjectKey, made: &Made) -> Result<()> {
        let preconditions = Preconditions { uid: made.uid.clone(), ..Preconditions::default() };
        let parameters =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let objects = self.objects(key.kind);
        match within(objects.delete(&key.name, &parameters)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(plain(&error))
                .with_context(|| format!("cannot delete {} {}", key.kind.name(), key.name)),
        }
    }

    /// Applies the operator's part of a status. Returns false if the object is gone or another one.
    pub async fn status(&self, site: &SiteId, document: &Value) -> Result<bool> {
        let parameters = PatchParams::apply(MANAGER).force();
        let sites = self.sites(site);
        let patch = Patch::Apply(document);
        let call = sites.patch_status(site.key.name(), &parameters, &patch);
        written(within(call).await?)
            .with_context(|| format!("cannot write the status of {}", site.key))
    }

    /// Replaces the finalizers of a site, in the version that was read. Returns false if it has changed
    /// meanwhile; the watch reports that.
    pub async fn finalizers(&self, seen: &Seen, finalizers: &[String]) -> Result<bool> {
        let site = &seen.id;
        let patch = json!({ "metadata": {
            "resourceVersion": seen.version, "uid": seen.uid, "finalizers": finalizers,
        } });
        let sites = self.sites(site);
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let call = sites.patch_metadata(site.key.name(), &parameters, &patch);
        written(within(call).await?)
            .with_context(|| format!("cannot write the finalizers of {}", site.key))
    }

    /// Writes an event about a site. A failure is logged only: the condition says the same.
    pub async fn event(&self, seen: &Seen, is_warning: bool, reason: &str, note: &str) {
        let event = events::Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: "Route".to_owned(),
            secondary: None,
        };
        let site = ObjectReference {
            api_version: Some(seen.id.group.api_version()),
            kind: Some(KIND.to_owned()),
            name: Some(seen.id.key.name().to_owned()),
            namespace: Some(seen.id.key.namespace().to_owned()),
            uid: Some(seen.uid.clone()),
            ..ObjectReference::default()
        };
        let result = timeout(CALL_MAX, self.recorder.publish(&event, &site)).await;
        if let Ok(Err(error)) = result {
            tracing::warn!("cannot write an event about {}: {:#}", seen.id.key, plain(&error));
        }
    }
}

/// Waits for an answer, but not forever.
async fn within<T>(call: impl Future<Output = T>) -> Result<T> {
    let result = timeout(CALL_MAX, call).await;
    result.map_err(|_| anyhow!("no answer in {} s", CALL_MAX.as_secs()))
}

/// Returns false for an object that is gone, or that is not the one that was meant.
fn written<T>(result: kube::Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(plain(&error)),
    }
}
