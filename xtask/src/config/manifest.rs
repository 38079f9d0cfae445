//! A static pod's manifest, as far as the builder must understand it.
//!
//! kubelet owns the schema. The builder reads which images a pod needs and where it listens, and
//! refuses what could never start: text that is no YAML, a kind that is no Pod.

use std::collections::BTreeMap;

use anyhow::Result;
use kiln_contract::pod;
use serde::Deserialize;

use super::text::Text;

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The file's stem, the name that build.toml uses.
    pub name: String,
    /// The text as it goes into the image.
    pub text: String,
    /// Images of all containers, in order, each once.
    pub images: Vec<String>,
    /// TCP ports on the node's own addresses.
    pub ports: Vec<u16>,
    /// kubelet is given it once there is a network ([`pod::AFTER`]).
    pub after_network: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    #[expect(dead_code, reason = "must be there and be text")]
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    image: String,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(rename = "containerPort")]
    container: u16,
    #[serde(rename = "hostPort")]
    host: Option<u16>,
    protocol: Option<String>,
}

impl Manifest {
    pub(super) fn parse(text: &Text, name: &str) -> Result<Self> {
        let manifest: Pod = text.yaml()?;
        if (manifest.api_version.as_str(), manifest.kind.as_str()) != ("v1", "Pod") {
            let what = format!("{}/{}", manifest.api_version, manifest.kind);
            return Err(text.whole(format!("a static pod is a v1/Pod, this is {what}")));
        }
        let after_network = match manifest.metadata.annotations.get(pod::AFTER).map(String::as_str)
        {
            None => false,
            Some(pod::NETWORK) => true,
            Some(other) => {
                let (key, only) = (pod::AFTER, pod::NETWORK);
                let what = format!("annotation `{key}` is `{other}`; it can be `{only}` only");
                return Err(text.whole(what));
            }
        };
        let mut images: Vec<String> = Vec::new();
        let mut ports = Vec::new();
        let spec = manifest.spec;
        for container in spec.init_containers.into_iter().chain(spec.containers) {
            ports.extend(
                container.ports.iter().filter_map(|port| node_port(port, spec.host_network)),
            );
            if !images.contains(&container.image) {
                images.push(container.image);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            text: text.body().to_owned(),
            images,
            ports,
            after_network,
        })
    }
}

fn node_port(port: &Port, host_network: bool) -> Option<u16> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return None;
    }
    if host_network { Some(port.container) } else { port.host }
}
