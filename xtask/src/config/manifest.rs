//! A static pod's manifest, as far as the builder must understand it.
//!
//! kubelet owns the schema. The builder reads which images a pod needs and where it listens, and
//! refuses a manifest that could never start: invalid YAML, a kind other than Pod, an image that
//! kubelet would pull although it is in the file.

use std::collections::BTreeMap;

use anyhow::Result;
use kiln_contract::pod;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::text::Text;

/// Pull policies with which kubelet starts an image that is in the file.
const POLICIES: [&str; 2] = ["Never", "IfNotPresent"];

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The file's stem, by which build.toml names it.
    pub name: String,
    /// The text as it goes into the image.
    pub text: String,
    /// Images of all containers, in order, each once.
    pub images: Vec<String>,
    /// TCP ports on the node's own addresses.
    pub ports: Vec<u16>,
    /// True if kubelet gets the pod only once there is a network ([`pod::AFTER`]).
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
    #[expect(dead_code, reason = "a manifest without a name is refused")]
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
    #[serde(default)]
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    image: Spanned<String>,
    image_pull_policy: Option<Spanned<String>>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Volume {
    image: Option<ImageVolume>,
}

/// An image whose files a container mounts (`ImageVolumeSource`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageVolume {
    reference: Spanned<String>,
    pull_policy: Option<Spanned<String>>,
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
            let found = format!("{}/{}", manifest.api_version, manifest.kind);
            return Err(text.whole(format!("a static pod must be a v1/Pod, not {found}")));
        }
        let after_network = match manifest.metadata.annotations.get(pod::AFTER).map(String::as_str)
        {
            None => false,
            Some(pod::NETWORK) => true,
            Some(other) => {
                let (key, only) = (pod::AFTER, pod::NETWORK);
                return Err(text.whole(format!(
                    "annotation `{key}` is `{other}`; the only valid value is `{only}`"
                )));
            }
        };
        let Spec { host_network, init_containers, containers, volumes } = manifest.spec;
        let mut images: Vec<String> = Vec::new();
        let mut ports = Vec::new();
        let mut add = |key, image: Spanned<String>, policy: Option<&Spanned<String>>| {
            check_policy(text, key, &image, policy)?;
            if !images.contains(&image.value) {
                images.push(image.value);
            }
            anyhow::Ok(())
        };
        for container in init_containers.into_iter().chain(containers) {
            ports.extend(container.ports.iter().filter_map(|port| node_port(port, host_network)));
            add("imagePullPolicy", container.image, container.image_pull_policy.as_ref())?;
        }
        for image in volumes.into_iter().filter_map(|volume| volume.image) {
            add("pullPolicy", image.reference, image.pull_policy.as_ref())?;
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

/// Refuses a policy that makes kubelet ask a registry for an image of the file.
///
/// A missing policy is refused too, because kubelet treats it as `Always` if the tag is `latest`.
fn check_policy(
    text: &Text,
    key: &str,
    image: &Spanned<String>,
    policy: Option<&Spanned<String>>,
) -> Result<()> {
    let name = &image.value;
    let (line, cause) = match policy {
        Some(policy) if POLICIES.contains(&policy.value.as_str()) => return Ok(()),
        Some(policy) => (policy.referenced.line(), format!("is `{}`", policy.value)),
        None => (image.referenced.line(), format!("is missing for `{name}`")),
    };
    let [never, if_missing] = POLICIES;
    Err(text.line(
        line,
        format!(
            "`{key}`: {cause}, so kubelet may look for a registry although the image is in the \
             file; write `{key}: {never}` or `{if_missing}`"
        ),
    ))
}

fn node_port(port: &Port, host_network: bool) -> Option<u16> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return None;
    }
    if host_network { Some(port.container) } else { port.host }
}
