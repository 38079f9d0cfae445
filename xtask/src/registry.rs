//! A registry of container images on this host, and pushing images to it or to any other.
//!
//! The registry is Docker's own (the package `docker-registry`), images are pushed by `crane`. Both
//! are programs of Debian that run from the builder's cache.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kiln_host::environment::NETWORK;
use serde_json::json;

use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::process::Command;

/// A server's certificate and key, as PEM files.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// The certificate.
    pub certificate: &'a Path,
    /// Its private key.
    pub key: &'a Path,
}

/// A registry on the loopback address.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The folder for its images, which several registries can share, and its configuration.
    pub folder: &'a Path,
    /// The port.
    pub port: u16,
    /// The certificate, without which the registry speaks plain HTTP.
    pub tls: Option<Tls<'a>>,
    /// The lines `USER:HASH` of an htpasswd file, with hashes of bcrypt; without it everybody is let
    /// in.
    pub users: Option<&'a str>,
}

/// Returns the command of a registry.
pub fn command(tool: &HostTool, settings: Settings<'_>) -> Result<Command> {
    let Settings { folder, port, tls, users } = settings;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |name: String, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    let mut http = json!({ "addr": format!("{}:{port}", Ipv4Addr::LOCALHOST) });
    if let Some(Tls { certificate, key }) = tls {
        http["tls"] = json!({ "certificate": certificate, "key": key });
    }
    // JSON is valid YAML, and its writer quotes paths.
    let mut text = json!({
        "version": 0.1,
        "log": { "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": folder.join("images") } },
        "http": http,
    });
    if let Some(users) = users {
        let path = write(format!("users-{port}"), users)?;
        text["auth"] = json!({ "htpasswd": { "realm": "images", "path": path } });
    }
    let config = write(format!("registry-{port}.yml"), &text.to_string())?;
    Ok(tool.command()?.arg("serve").arg(config))
}

/// Pushes the only image of a layout, and checks that the registry has the same bytes. Returns the
/// image's digest.
///
/// Names and passwords come from Docker's configuration, as for other programs; `authority` is a file
/// with the certificate that signs the registry's, in addition to those of the host's network.
pub fn push(
    crane: &HostTool,
    layout: &Layout,
    reference: &str,
    authority: Option<&Path>,
) -> Result<Digest> {
    let crane = || -> Result<Command> {
        let command = crane.command()?.with(NETWORK);
        Ok(authority.into_iter().fold(command, |command, file| command.env("SSL_CERT_FILE", file)))
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = scratch.path().join("layout");
    layout.write(&folder)?;
    let push = crane()?.arg("push").arg(folder).arg(reference);
    push.read().with_context(|| format!("cannot push to {reference}"))?;
    let found = crane()?.args(["digest", reference]).read();
    let found = found.with_context(|| format!("cannot read {reference} back"))?;
    let (_, digest) = layout.only()?;
    let pushed = format!("sha256:{digest}");
    ensure!(found.trim() == pushed, "{reference} is {}, not {pushed}", found.trim());
    Ok(digest)
}
