//! The join credential of a node: how it is found out, and the forms in which a node takes it.
//!
//! `info` checks what the cluster publishes for nodes that want to join, `discover` fetches it,
//! `handover` writes the credential for a machine. The credential's format is that of
//! `docs/boot.md`.

pub mod discover;
pub mod handover;
pub mod info;
pub mod pin;
pub mod server;
pub mod token;

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::Serialize;

use self::server::Server;
use self::token::Token;

/// The credential's name, and that of its file.
pub const NAME: &str = "kiln.join";

/// The content of a join credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The API server, as nodes reach it.
    pub server: Server,
    /// The token with which the node asks for its certificate.
    pub token: Token,
    /// The cluster's certificate authorities in PEM.
    pub ca: String,
    /// The addresses of the cluster's name servers; empty for the default.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain; otherwise the default.
    pub cluster_domain: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    server: &'a str,
    token: &'a str,
    ca: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster_dns: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_domain: Option<&'a str>,
}

impl Join {
    /// Returns the text of the credential.
    pub fn text(&self) -> Result<String> {
        let file = File {
            server: self.server.as_str(),
            token: &self.token.reveal(),
            ca: &self.ca,
            cluster_dns: self.cluster_dns.iter().map(ToString::to_string).collect(),
            cluster_domain: self.cluster_domain.as_deref(),
        };
        toml::to_string(&file).context("cannot write the credential as TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::Join;

    #[test]
    fn the_credential_is_toml_with_the_keys_that_a_node_reads() {
        let join = Join {
            server: "https://192.0.2.1:6443".parse().unwrap(),
            token: "abcdef.0123456789abcdef".parse().unwrap(),
            ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
            cluster_dns: Vec::new(),
            cluster_domain: None,
        };
        let short: toml::Table = toml::from_str(&join.text().unwrap()).unwrap();
        assert_eq!(short.keys().collect::<Vec<_>>(), ["ca", "server", "token"]);
        assert_eq!(short["ca"].as_str(), Some(join.ca.as_str()));
        let long = Join {
            cluster_dns: vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()],
            cluster_domain: Some("cluster.example".to_owned()),
            ..join
        };
        let long: toml::Table = toml::from_str(&long.text().unwrap()).unwrap();
        assert_eq!(long["cluster-dns"].as_array().unwrap()[1].as_str(), Some("fd00::a"));
        assert_eq!(long["cluster-domain"].as_str(), Some("cluster.example"));
        assert_eq!(long["token"].as_str(), Some("abcdef.0123456789abcdef"));
    }
}
