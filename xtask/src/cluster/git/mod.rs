//! A git server on this host: `git http-backend` behind nginx, over HTTP and HTTPS, and sshd.
//!
//! All programs are Debian's, locked in `build.lock`, and run as ordinary processes of the caller from
//! the builder's cache. They serve the bare repositories of one folder, and end when the server is
//! dropped. It is made for tests and trials: its password is public, and every client that reaches its
//! HTTP port may push.
//!
//! | path | content |
//! | --- | --- |
//! | `NAME.git` | a repository for all |
//! | `private/NAME.git` | a repository that HTTP shows to [`USER`] with [`PASSWORD`] only |
//!
//! Programs start other programs by path here, so [`programs`] writes a script for each of them.

mod certificates;
mod http;
mod layout;
mod programs;
mod repository;
mod ssh;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::component::Component;
pub use layout::Settings;
use layout::{Layout, PASSWORD, Ports, USER};
pub use programs::Programs;
pub use repository::Commit;

/// A running git server.
#[derive(Debug)]
pub struct GitServer {
    layout: Layout,
    components: Vec<Component>,
}

impl GitServer {
    /// Starts the server with its files in a folder, and waits until it answers.
    pub fn start(programs: &Programs, folder: &Path, settings: Settings) -> Result<Self> {
        for part in ["logs", "repositories", "home"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let folder = folder.canonicalize().context("cannot find the git server's folder")?;
        let layout = Layout { folder, settings, ports: Ports::choose()? };
        programs::write(programs, &layout.folder)?;
        certificates::make(&layout.path("certificates"), layout.settings.address)?;
        ssh::make_keys(&layout)?;
        let mut components = http::start(programs, &layout)?;
        components.push(ssh::start(&layout)?);
        let server = Self { layout, components };
        let text = server.describe().to_string();
        fs::write(server.description(), text).context("cannot write the server's description")?;
        Ok(server)
    }

    /// The file with [`GitServer::describe`].
    pub fn description(&self) -> PathBuf {
        self.layout.path("server.json")
    }

    /// Describes the server for a test in another process.
    ///
    /// `git` is a program to push with; `key` an authorised private key of SSH, and
    /// `users` the file with passwords, which nginx reads for each request.
    pub fn describe(&self) -> Value {
        let https = |port: u16| format!("https://{}:{port}", self.layout.settings.address);
        let [unknown, other, expired] = self.layout.ports.wrong;
        json!({
            "repositories": self.repositories(),
            "git": self.layout.program("git"),
            "sshKeygen": self.layout.program("ssh-keygen"),
            "http": self.http_url(),
            "https": self.https_url(),
            "wrong": {
                "unknown": https(unknown), "other": https(other), "expired": https(expired),
            },
            "ca": self.ca(),
            "user": USER,
            "password": PASSWORD,
            "users": http::users(&self.layout),
            "ssh": self.ssh_url(),
            "key": self.ssh_key(),
            "knownHosts": self.known_hosts(),
            "logs": self.layout.path("logs"),
        })
    }

    /// The beginning of repositories' URLs, without a slash at its end.
    pub fn http_url(&self) -> String {
        format!("http://{}:{}", self.layout.settings.address, self.layout.ports.http)
    }

    /// The same for programs on this host, which cannot use the address of virtual machines.
    pub fn local_url(&self) -> String {
        format!("http://{}:{}", self.layout.settings.listen, self.layout.ports.http)
    }

    /// The folder of all repositories.
    pub fn repositories(&self) -> PathBuf {
        self.layout.path("repositories")
    }

    /// The same with encryption.
    pub fn https_url(&self) -> String {
        format!("https://{}:{}", self.layout.settings.address, self.layout.ports.https)
    }

    /// The same for SSH.
    pub fn ssh_url(&self) -> String {
        format!("ssh://{}@{}:{}", ssh::USER, self.layout.settings.address, self.layout.ports.ssh)
    }

    /// The certificate of the authority that signed the server's own, as PEM.
    pub fn ca(&self) -> PathBuf {
        self.layout.path("certificates").join(certificates::CA)
    }

    /// A private key that may log in, in OpenSSH's form.
    pub fn ssh_key(&self) -> PathBuf {
        self.layout.path("ssh").join("client")
    }

    /// The file with the server's host keys, in the form of `known_hosts`.
    pub fn known_hosts(&self) -> PathBuf {
        self.layout.path("ssh").join("known_hosts")
    }

    /// Creates an empty repository of this name, without `.git`.
    pub fn create(&self, name: &str) -> Result<()> {
        repository::create(&self.layout, name)
    }

    /// Returns the commit of a branch; any client may have pushed it.
    pub fn head(&self, repository: &str, branch: &str) -> Result<String> {
        repository::head(&self.layout, repository, branch)
    }

    /// Makes a commit and pushes it over HTTP, also where it does not follow the branch's last one.
    /// Returns its name.
    pub fn push(&self, commit: Commit<'_>) -> Result<String> {
        repository::push(&self.layout, commit, &self.local_url())
    }

    /// Fails if a program has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.components.iter_mut().try_for_each(Component::check)
    }

    /// Stops all programs.
    pub fn stop(mut self) -> Result<()> {
        self.components.drain(..).rev().try_for_each(Component::stop)
    }
}
