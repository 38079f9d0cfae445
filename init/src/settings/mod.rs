//! The credential `kiln.node`: TOML to settings. Pure; one file for each section.
//!
//! To add a key, write its function in the section's file, list it in [`KEYS`], and describe it
//! in `docs/cluster.md`.

pub mod address;
pub mod console;
pub mod data;
pub mod identity;
pub mod label;
pub mod module;
pub mod proxy;
pub mod read;
pub mod registry;
pub mod sysctl;
pub mod taint;

use kiln_contract::setting::NODE;

use address::NodeIp;
use console::Console;
use data::DataPolicy;
use proxy::Proxy;
use read::{Key, Problems};
use registry::Registry;
use taint::Taint;

/// The settings of a node. The default is a node without `kiln.node`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The node's name, in lower case.
    pub hostname: Option<String>,
    /// The choice of the node's addresses, in order of preference.
    pub node_ip: Vec<NodeIp>,
    /// Labels of the Node object.
    pub labels: Vec<(String, String)>,
    /// Taints of the Node object when it registers.
    pub taints: Vec<Taint>,
    /// The Node object's `spec.providerID`.
    pub provider_id: Option<String>,
    /// Kernel settings: the path below `/proc/sys`, and the value.
    pub sysctls: Vec<(String, String)>,
    /// Kernel modules to load.
    pub modules: Vec<String>,
    /// The choice and the use of the data partition.
    pub data: DataPolicy,
    /// Mirrors and credentials of registries.
    pub registries: Vec<Registry>,
    /// The proxy of the host's services.
    pub proxy: Proxy,
    /// The console's policy.
    pub console: Console,
}

/// Every key of the document.
pub const KEYS: [Key<Settings>; 11] = [
    ("hostname", |node, value, problems| node.hostname = identity::hostname(value, problems)),
    ("node-ip", |node, value, problems| node.node_ip = address::read(value, problems)),
    ("provider-id", |node, value, problems| {
        node.provider_id = identity::provider_id(value, problems);
    }),
    ("modules", |node, value, problems| node.modules = module::read(value, problems)),
    ("taints", |node, value, problems| node.taints = taint::read(value, problems)),
    ("labels", |node, value, problems| node.labels = label::read(value, problems)),
    ("sysctls", |node, value, problems| node.sysctls = sysctl::read(value, problems)),
    ("data", |node, value, problems| node.data = data::read(value, problems)),
    ("registries", |node, value, problems| node.registries = registry::read(value, problems)),
    ("proxy", |node, value, problems| node.proxy = proxy::read(value, problems)),
    ("console", |node, value, problems| node.console = console::read(value, problems)),
];

/// Parses `kiln.node`.
#[must_use]
pub fn parse(bytes: &[u8]) -> (Settings, Problems) {
    read::document(NODE.name, bytes, &KEYS)
}

#[cfg(test)]
mod tests;
