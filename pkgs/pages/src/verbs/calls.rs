//! The calls to the API server, with a person's rights. None decides.

use anyhow::{Context as _, Result};
use kiln_controller::fault::plain;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::time::timeout;

use crate::api::{Group, Site};
use crate::cluster::CALL_MAX;
use crate::key::SiteKey;
use crate::syncer::desired::ROLLBACK;
use crate::verbs::options::Access;

/// The field manager of the annotation.
const MANAGER: &str = "pages-rollback";

/// The sites that one answer of the API server has at most.
const CHUNK: u32 = 500;

/// The calls.
pub struct Calls {
    client: Client,
}

impl Calls {
    /// Reads the kubeconfig. Sends no request.
    pub async fn new(access: &Access) -> Result<Self> {
        let choice =
            KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
        let config = match &access.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &choice).await.map_err(anyhow::Error::from)
            }
            None if access.context.is_some() => {
                Config::from_kubeconfig(&choice).await.map_err(anyhow::Error::from)
            }
            None => Config::infer().await.map_err(anyhow::Error::from),
        };
        let config = config.context("cannot use a kubeconfig; pass --kubeconfig FILE")?;
        Ok(Self { client: Client::try_from(config).context("cannot create a client")? })
    }

    fn api(&self, group: Group, namespace: Option<&str>) -> Api<Site> {
        let (client, resource) = (self.client.clone(), group.resource());
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// Returns the sites of both groups, by namespace and name.
    pub async fn sites(&self, namespace: Option<&str>) -> Result<Vec<Site>> {
        let mut sites = Vec::new();
        for group in Group::ALL {
            let api = self.api(group, namespace);
            let mut parameters = ListParams::default().limit(CHUNK);
            loop {
                let list = match within(api.list(&parameters)).await? {
                    Ok(list) => list,
                    // The cluster does not have this group.
                    Err(kube::Error::Api(status)) if status.code == 404 => break,
                    Err(error) => {
                        return Err(plain(&error)).context("cannot list the StaticSites");
                    }
                };
                sites.extend(list.items);
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => break,
                }
            }
        }
        sites.sort_by_key(|site| (site.metadata.namespace.clone(), site.metadata.name.clone()));
        Ok(sites)
    }

    /// Returns a site with its group. If both groups have it, our own one counts.
    pub async fn site(&self, key: &SiteKey) -> Result<Option<(Group, Site)>> {
        for group in Group::ALL {
            let api = self.api(group, Some(key.namespace()));
            match within(api.get_opt(key.name())).await? {
                Ok(Some(site)) => return Ok(Some((group, site))),
                Ok(None) => {}
                Err(error) => {
                    return Err(plain(&error))
                        .with_context(|| format!("cannot read the StaticSite {key}"));
                }
            }
        }
        Ok(None)
    }

    /// Sets or removes the annotation of a rollback.
    pub async fn annotate(&self, group: Group, key: &SiteKey, to: Option<&str>) -> Result<()> {
        let api = self.api(group, Some(key.namespace()));
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { (ROLLBACK): to } } }));
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let written = within(api.patch_metadata(key.name(), &parameters, &patch)).await?;
        written
            .map(drop)
            .map_err(|error| plain(&error))
            .with_context(|| format!("cannot annotate the StaticSite {key}"))
    }
}

async fn within<T>(call: impl Future<Output = T>) -> Result<T> {
    timeout(CALL_MAX, call).await.context("the API server does not answer")
}
