//! The client of the API server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The longest silence of a connection. A watch lasts up to 290 s, and the API server ends it then.
const SILENCE_MAX: Duration = Duration::from_secs(295);

/// The longest time of one call.
pub const CALL_MAX: Duration = Duration::from_secs(30);

/// Creates a client from a kubeconfig or the pod's service account. Sends no request.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use {}", path.display()))?
        }
        None => Config::incluster()
            .context("cannot find a service account; run in a pod, or pass --kubeconfig FILE")?,
    };
    config.read_timeout = Some(SILENCE_MAX);
    Client::try_from(config).context("cannot create a client")
}
