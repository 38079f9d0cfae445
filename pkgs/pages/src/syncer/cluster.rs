//! The calls to the API server: watches, Secrets, status. None decides.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::api::events;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as Seen, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::timeout;

use crate::api::{Group, KIND, PLURAL, SecretReference};
use crate::git::login::Login;
use crate::guard::url::Scheme;
use crate::syncer::desired::Desired;
use crate::syncer::event::Event;

/// The field manager of the syncer's part of a status, but for previews.
pub const MANAGER: &str = "pages-syncer";

/// The longest time of one call.
const CALL_MAX: Duration = Duration::from_secs(30);

/// The user of a login whose Secret names none; forges accept any name with a token.
const USER: &str = "git";

/// The key of a reference that names none.
const DEFAULT_KEY: &str = "password";

/// The key of the private key in a Secret of the type `kubernetes.io/ssh-auth`.
const SSH_KEY: &str = "ssh-privatekey";

/// The key of host keys in a Secret with a private key.
const KNOWN_HOSTS_KEY: &str = "known_hosts";

/// The `ClusterRole` that lets the syncer read the Secrets of a namespace that binds it.
pub const SECRETS: &str = "kiln:pages-syncer-secrets";

/// The key of the secret in a webhook's Secret.
const WEBHOOK_KEY: &str = "secret";

/// The key of the tokens in an upload's Secret.
const UPLOAD_KEY: &str = "token";

/// The calls of the syncer.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

/// A change of the sites of one group.
pub type Change = (Group, watcher::Result<Seen<DynamicObject>>);

impl Cluster {
    /// Uses a client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns the groups that the API server serves.
    pub async fn groups(&self) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        for group in Group::ALL {
            let version = group.api_version();
            let list = within(self.client.list_api_group_resources(&version)).await?;
            match list {
                Ok(list) if list.resources.iter().any(|one| one.name == PLURAL) => {
                    groups.push(group);
                }
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error).context("cannot discover the API's groups"),
            }
        }
        Ok(groups)
    }

    /// Watches the sites of a group in all namespaces.
    #[must_use]
    pub fn watch(&self, group: Group) -> BoxStream<'static, Change> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &group.resource());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        events.map(move |event| (group, event)).boxed()
    }

    /// Reads the login of a site from the Secret in its namespace.
    pub async fn login(&self, site: &Desired) -> Result<Option<Login>> {
        let Some(reference) = &site.secret else { return Ok(None) };
        let secret = self.secret(site.key.namespace(), &reference.name).await?;
        let is_ssh = site.url.as_ref().is_ok_and(|url| url.scheme == Scheme::Ssh);
        login(&secret, reference, is_ssh).map(Some)
    }

    /// Reads the secret of a site's webhooks; nothing if the site names none.
    pub async fn webhook_secret(&self, site: &Desired) -> Result<Option<Vec<u8>>> {
        let Some(name) = &site.webhook else { return Ok(None) };
        let secret = self.secret(site.key.namespace(), name).await?;
        Ok(text(&secret, WEBHOOK_KEY).map(String::into_bytes))
    }

    /// Reads the tokens of a site's uploads, one a line; nothing if the site names none.
    pub async fn upload_tokens(&self, site: &Desired) -> Result<Option<String>> {
        let Some(name) = &site.upload else { return Ok(None) };
        let secret = self.secret(site.key.namespace(), name).await?;
        Ok(text(&secret, UPLOAD_KEY))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match within(secrets.get_opt(name)).await? {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => bail!("there is no Secret {name} in the namespace {namespace}"),
            Err(kube::Error::Api(status)) if status.code == 403 => bail!(
                "cannot read the Secret {name}: the syncer has no right to it; make a RoleBinding for \
                 the ClusterRole {SECRETS} in the namespace {namespace}"
            ),
            Err(error) => Err(error).with_context(|| format!("cannot read the Secret {name}")),
        }
    }

    /// Writes an event about a site. A failure is logged only: the condition says the same.
    pub async fn event(&self, site: &Desired, event: &Event) {
        let namespace = site.key.namespace().to_owned();
        let events: Api<events::v1::Event> = Api::namespaced(self.client.clone(), &namespace);
        let object = events::v1::Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", site.key.name())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Publish".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(event.note.clone()),
            reason: Some(event.reason.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(site.group.api_version()),
                kind: Some(KIND.to_owned()),
                name: Some(site.key.name().to_owned()),
                namespace: Some(namespace),
                uid: Some(site.uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(MANAGER.to_owned()),
            type_: Some(if event.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..events::v1::Event::default()
        };
        match within(events.create(&PostParams::default(), &object)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(site = %site.key, "cannot write an event: {error}"),
            Err(error) => tracing::warn!(site = %site.key, "cannot write an event: {error:#}"),
        }
    }

    /// Writes a part of a site's status, as the field manager of that part.
    pub async fn write(&self, site: &Desired, manager: &str, document: &Value) -> Result<()> {
        let resource = site.group.resource();
        let sites: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), site.key.namespace(), &resource);
        let parameters = PatchParams::apply(manager).force();
        let patch = Patch::Apply(document);
        let written = within(sites.patch_status(site.key.name(), &parameters, &patch)).await?;
        match written {
            Ok(_) => Ok(()),
            // The object is gone, or another one has its name.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            Err(error) => Err(error).context("cannot write the status"),
        }
    }
}

/// Returns the login in a Secret. A Secret of the type `kubernetes.io/ssh-auth` needs no key's name.
fn login(secret: &Secret, reference: &SecretReference, is_ssh: bool) -> Result<Login> {
    let value = |key: &str| text(secret, key);
    let user = reference.username.clone().or_else(|| value("username"));
    let user = user.unwrap_or_else(|| USER.to_owned());
    let key = if is_ssh && reference.key == DEFAULT_KEY { SSH_KEY } else { &reference.key };
    let proof = value(key)
        .ok_or_else(|| anyhow!("the Secret {} has no usable key {key:?}", reference.name))?;
    Ok(if is_ssh {
        let known_hosts = value(KNOWN_HOSTS_KEY).unwrap_or_default();
        Login::Key { user, key: proof, known_hosts }
    } else {
        Login::Password { user, password: proof }
    })
}

/// Returns a value of a Secret as text, without a line break at its end.
fn text(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    let text = std::str::from_utf8(&value.0).ok()?.trim_end_matches(['\r', '\n']);
    (!text.is_empty()).then(|| text.to_owned())
}

async fn within<T>(call: impl Future<Output = T>) -> Result<T> {
    timeout(CALL_MAX, call).await.context("the API server does not answer")
}

#[cfg(test)]
mod tests {
    use super::{Secret, SecretReference, login};
    use crate::git::login::Login;
    use serde_json::json;

    fn check(data: &serde_json::Value, key: &str, is_ssh: bool) -> Result<Login, String> {
        // Values are base64: `a2V5` is `key`, `cA==` is `p`, and `aA==` is `h`.
        let secret: Secret = serde_json::from_value(json!({ "data": data })).unwrap();
        let reference: SecretReference =
            serde_json::from_value(json!({ "name": "s", "key": key })).unwrap();
        login(&secret, &reference, is_ssh).map_err(|error| error.to_string())
    }

    #[test]
    fn an_ssh_secret_has_a_key_and_host_keys() {
        let secret = json!({ "ssh-privatekey": "a2V5Cg==", "known_hosts": "aA==" });
        let key = |user: &str, key: &str| {
            let (user, key, known_hosts) = (user.to_owned(), key.to_owned(), "h".to_owned());
            Ok(Login::Key { user, key, known_hosts })
        };
        assert_eq!(check(&secret, "password", true), key("git", "key"));
        let own = json!({ "id": "cA==", "username": "a2V5", "known_hosts": "aA==" });
        assert_eq!(check(&own, "id", true), key("key", "p"));
        let password = json!({ "password": "cA==" });
        let missing = "the Secret s has no usable key \"ssh-privatekey\"".to_owned();
        assert_eq!(check(&password, "password", true), Err(missing));
        let expected = Login::Password { user: "git".to_owned(), password: "p".to_owned() };
        assert_eq!(check(&password, "password", false), Ok(expected));
    }
}
