//! The tables of the file as TOML has them. Every table refuses unknown keys.
//!
//! A route's header rules are missing here, because `http/headers.rs` owns their keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place in the file.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, rename = "allow-empty")]
    pub(super) allow_empty: bool,
    #[serde(default)]
    pub(super) https_backends: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) http_backends: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) listener: Vec<Spanned<Listener>>,
    #[serde(default)]
    pub(super) route: Vec<Spanned<Route>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Listener {
    pub(super) name: Option<Text>,
    pub(super) address: Text,
    pub(super) kind: Text,
    #[serde(default)]
    pub(super) proxy_in: Vec<Text>,
    #[serde(default)]
    pub(super) trusted: Vec<Text>,
    pub(super) max_connections: Option<Spanned<u32>>,
    pub(super) max_connections_per_address: Option<Spanned<u32>>,
    pub(super) hello_timeout: Option<Spanned<f64>>,
    pub(super) connect_timeout: Option<Spanned<f64>>,
    pub(super) idle_timeout: Option<Spanned<f64>>,
    pub(super) half_closed_timeout: Option<Spanned<f64>>,
    pub(super) lifetime: Option<Spanned<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Route {
    #[serde(default)]
    pub(super) names: Vec<Text>,
    pub(super) listeners: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) backends: Vec<Text>,
    pub(super) policy: Option<Text>,
    pub(super) proxy_out: Option<Text>,
    pub(super) redirect: Option<Text>,
    #[serde(default)]
    pub(super) alpn: Vec<Text>,
    #[serde(default)]
    pub(super) default: bool,
    pub(super) check: Option<Spanned<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Check {
    pub(super) kind: Text,
    pub(super) path: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) status: Option<Spanned<u16>>,
    pub(super) interval: Option<Spanned<f64>>,
    pub(super) timeout: Option<Spanned<f64>>,
    pub(super) rise: Option<Spanned<u32>>,
    pub(super) fall: Option<Spanned<u32>>,
}
