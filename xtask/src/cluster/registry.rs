//! The registry on this host that a cluster's nodes pull the add-ons' images from.
//!
//! Nodes see it as a mirror of the registry that the images' names have, `kiln.local`, which exists
//! nowhere: the credential `kiln.node` names the mirror, `kiln.ca.registry` the authority that signed
//! its certificate.

use anyhow::Result;
use kiln_contract::path::IMAGE_REGISTRY;

use super::component::Component;
use super::control_plane::free_port;
use super::node::Credentials;
use super::pki;
use super::state::State;
use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::qemu::segment;
use crate::registry::{self, Tls};

/// The `NAME` of the credential `kiln.ca.NAME` with the registry's authority.
const AUTHORITY: &str = "registry";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    component: Component,
    port: u16,
}

impl Registry {
    /// Starts the registry and waits until it answers.
    pub fn start(tool: &HostTool, state: &State) -> Result<Self> {
        let port = free_port()?;
        let (certificate, key) =
            (state.pki.certificate(pki::REGISTRY), state.pki.key(pki::REGISTRY));
        let tls = Tls { certificate: &certificate, key: &key };
        let command = registry::command(tool, &state.path("registry"), port, Some(tls))?;
        let mut component = Component::start("docker-registry", command, &state.logs())?;
        component.wait_until_ready(&format!("https://127.0.0.1:{port}/v2/"))?;
        Ok(Self { component, port })
    }

    /// The registry's address for nodes.
    pub fn url_for_nodes(&self) -> String {
        format!("https://{}:{}", segment::HOST, self.port)
    }

    /// Pushes the image of this name, `kiln.local/PATH:TAG`; returns its digest.
    pub fn push(
        &self,
        crane: &HostTool,
        state: &State,
        name: &str,
        layout: &Layout,
    ) -> Result<Digest> {
        let path = name.split_once('/').map_or(name, |(_, path)| path);
        let reference = format!("127.0.0.1:{}/{path}", self.port);
        let authority = state.pki.certificate(pki::REGISTRY_CA);
        registry::push(crane, layout, &reference, Some(&authority))
    }

    /// The credentials with which a node pulls from this registry.
    pub fn credentials(&self, state: &State) -> Result<Credentials> {
        let node = format!(
            "[registries.\"{IMAGE_REGISTRY}\"]\nmirrors = [\"{}\"]\nca = \"{AUTHORITY}\"\n",
            self.url_for_nodes()
        );
        Ok(Credentials::from([
            ("kiln.node".to_owned(), node),
            (format!("kiln.ca.{AUTHORITY}"), state.pki.text(pki::REGISTRY_CA)?),
        ]))
    }

    /// Fails if the registry has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.component.check()
    }

    /// Stops the registry.
    pub fn stop(self) -> Result<()> {
        self.component.stop()
    }
}
