//! The cluster network, installed as a user does it: images in a registry, and `kubectl apply -k`.
//!
//! `manifests/cluster` is copied to the cluster's folder, and a kustomization next to the copy sets
//! what only this cluster knows: the API server's address and the images' digests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Cluster;
use super::kustomize;
use super::registry::Registry;
use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::progress::Progress;
use crate::qemu::segment;

/// The folder in the cluster's state.
const FOLDER: &str = "add-ons";

/// The copy of `manifests/cluster` in it.
const BASE: &str = "base";

/// The namespace of the cluster network.
pub const NAMESPACE: &str = "kube-system";

/// The label that all objects of the kustomization have.
pub const LABEL: &str = "app.kubernetes.io/part-of=kiln";

/// The programs and files that the cluster network is installed with and from.
#[derive(Debug, Clone)]
pub struct AddOns {
    /// Docker's registry.
    pub registry: HostTool,
    /// The program that pushes images.
    pub crane: HostTool,
    /// The folder `manifests/cluster`.
    pub manifests: PathBuf,
    /// Images by their names.
    pub images: BTreeMap<String, Layout>,
}

/// Starts a registry, pushes the images and applies the manifests.
pub fn install(add_ons: &AddOns, cluster: &mut Cluster, progress: &Progress) -> Result<()> {
    let registry = Registry::start(&add_ons.registry, &cluster.state)?;
    let task = progress.task("cluster network", Some(add_ons.images.len() as u64 + 1));
    let mut digests = BTreeMap::new();
    for (name, layout) in &add_ons.images {
        task.note(name);
        let digest = registry.push(&add_ons.crane, &cluster.state, name, layout)?;
        digests.insert(name.as_str(), digest);
        task.advance(1);
    }
    let folder = cluster.state.path(FOLDER);
    kustomize::copy(&add_ons.manifests, &folder.join(BASE))?;
    task.note("kubectl apply -k");
    kustomize::apply(cluster, &folder, &kustomization(cluster.port(), &digests))
        .context("cannot install the cluster network")?;
    cluster.registry = Some(registry);
    task.done();
    Ok(())
}

fn kustomization(port: u16, digests: &BTreeMap<&str, Digest>) -> Value {
    let image = |(name, digest): (&&str, &Digest)| kustomize::image(name, digest);
    let literals = [
        format!("KUBERNETES_SERVICE_HOST={}", segment::HOST),
        format!("KUBERNETES_SERVICE_PORT={port}"),
    ];
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [BASE],
        "configMapGenerator": [{
            "name": "api-server", "namespace": "kube-system",
            "behavior": "replace", "literals": literals,
        }],
        "images": digests.iter().map(image).collect::<Vec<_>>(),
        // One emulated node has enough to do with one.
        "replicas": [{ "name": "coredns", "count": 1 }],
    })
}

/// Returns the workloads of this namespace that are not ready yet, as `KIND/NAME`. `label` selects the
/// ones that belong to Kiln.
pub fn pending(cluster: &Cluster, namespace: &str, label: &str) -> Result<Vec<String>> {
    let arguments = [
        "get",
        "daemonsets,deployments,statefulsets",
        "--namespace",
        namespace,
        "--selector",
        label,
        "--output",
        "json",
    ];
    let answer = cluster.ask(&arguments.map(str::to_owned))?;
    if !answer.success {
        // The API server is away, or busy.
        return Ok(vec!["the API server".to_owned()]);
    }
    let list: Value = serde_json::from_str(&answer.output).context("cannot read kubectl's list")?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().filter(|item| !is_ready(item)).map(name).collect())
}

fn name(workload: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&workload["kind"]).to_lowercase(), text(&workload["metadata"]["name"]))
}

/// True if every pod of a `DaemonSet` or a Deployment is ready, and of the newest version.
fn is_ready(workload: &Value) -> bool {
    let status = &workload["status"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let observed =
        number(&status["observedGeneration"]) >= number(&workload["metadata"]["generation"]);
    let (wanted, ready, updated) = match workload["kind"].as_str() {
        Some("DaemonSet") => (
            number(&status["desiredNumberScheduled"]),
            number(&status["numberReady"]),
            number(&status["updatedNumberScheduled"]),
        ),
        _ => (
            number(&workload["spec"]["replicas"]),
            number(&status["readyReplicas"]),
            number(&status["updatedReplicas"]),
        ),
    };
    observed && wanted > 0 && ready == wanted && updated == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_ready_with_all_pods_of_the_newest_version() {
        let set = |generation: u64, desired: u64, ready: u64, updated: u64| {
            is_ready(&json!({
                "kind": "DaemonSet",
                "metadata": { "name": "flannel", "generation": generation },
                "status": {
                    "observedGeneration": 1, "desiredNumberScheduled": desired,
                    "numberReady": ready, "updatedNumberScheduled": updated,
                },
            }))
        };
        assert!(set(1, 2, 2, 2));
        assert!(!set(2, 2, 2, 2), "a change was not looked at yet");
        assert!(!set(1, 0, 0, 0), "no node is there yet");
        assert!(!set(1, 2, 1, 2) && !set(1, 2, 2, 1));
        let deployment = json!({
            "kind": "Deployment",
            "metadata": { "name": "coredns", "generation": 1 },
            "spec": { "replicas": 1 },
            "status": { "observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1 },
        });
        assert!(is_ready(&deployment));
        assert!(!is_ready(&json!({ "kind": "Deployment", "spec": { "replicas": 1 } })));
        assert_eq!(name(&deployment), "deployment/coredns");
    }

    #[test]
    fn images_are_pinned_by_digest_under_the_names_that_manifests_have() {
        let digest = Digest::of_bytes(b"x");
        let made = kustomization(7443, &BTreeMap::from([("kiln.local/flannel:latest", digest)]));
        assert_eq!(made["images"][0]["name"], "kiln.local/flannel");
        assert_eq!(made["images"][0]["digest"], format!("sha256:{digest}"));
        assert_eq!(made["configMapGenerator"][0]["literals"][1], "KUBERNETES_SERVICE_PORT=7443");
    }
}
