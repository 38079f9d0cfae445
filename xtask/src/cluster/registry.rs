//! The registry on this host that a cluster's nodes pull the add-ons' images from.
//!
//! Nodes see it as a mirror of the registry that the images' names have, `kiln.local`, which exists
//! nowhere: the credential `kiln.node` names the mirror, `kiln.ca.registry` the authority that signed
//! its certificate.

use anyhow::Result;
use kiln_contract::path::IMAGE_REGISTRY;

use super::component::Component;
use super::node::Credentials;
use super::pki;
use super::state::State;
use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::port;
use crate::qemu::segment;
use crate::registry::{self, Tls};

/// The `NAME` of the credential `kiln.ca.NAME` with the registry's authority.
const AUTHORITY: &str = "registry";

/// The user of a registry with a password, for a test: `kiln` with the password `for nodes only`.
const USERS: &str = "kiln:$2y$04$abcdefghijklmnopqrstuuLDSz5bgN/jJKsz/Dun2U9c/eLPwa9sS\n";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    tool: HostTool,
    component: Component,
    port: u16,
    /// Another registry with the same images, which asks for a password.
    locked: Option<(Component, u16)>,
}

impl Registry {
    /// Starts the registry and waits until it answers.
    pub fn start(tool: &HostTool, state: &State) -> Result<Self> {
        let (component, port) = start(tool, state, "docker-registry", None)?;
        Ok(Self { tool: tool.clone(), component, port, locked: None })
    }

    /// Starts another registry with the same images, which asks for a password.
    pub fn start_locked(&mut self, state: &State) -> Result<()> {
        self.locked = Some(start(&self.tool, state, "docker-registry-locked", Some(USERS))?);
        Ok(())
    }

    /// The registry's address for nodes.
    pub fn url_for_nodes(&self) -> String {
        url_for_nodes(self.port)
    }

    /// The address of the registry that asks for a password.
    pub fn locked_url_for_nodes(&self) -> Option<String> {
        self.locked.as_ref().map(|(_, port)| url_for_nodes(*port))
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
        if let Some((component, _)) = &mut self.locked {
            component.check()?;
        }
        self.component.check()
    }

    /// Stops the registry.
    pub fn stop(self) -> Result<()> {
        self.locked.map_or(Ok(()), |(component, _)| component.stop())?;
        self.component.stop()
    }
}

fn start(
    tool: &HostTool,
    state: &State,
    name: &'static str,
    users: Option<&str>,
) -> Result<(Component, u16)> {
    let port = port::free()?;
    let (certificate, key) = (state.pki.certificate(pki::REGISTRY), state.pki.key(pki::REGISTRY));
    let tls = Some(Tls { certificate: &certificate, key: &key });
    let folder = state.path("registry");
    let command =
        registry::command(tool, registry::Settings { folder: &folder, port, tls, users })?;
    let mut component = Component::start(name, command, &state.logs())?;
    // A registry that asks for a password answers with 401 here (Unauthorized).
    let status = if users.is_some() { 401 } else { 200 };
    component.wait_for_status(&format!("https://127.0.0.1:{port}/v2/"), status)?;
    Ok((component, port))
}

fn url_for_nodes(port: u16) -> String {
    format!("https://{}:{port}", segment::HOST)
}
