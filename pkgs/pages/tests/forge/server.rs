//! The servers, and pushes to them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pages::git::limits::{Failure, Limits};
use pages::git::remote::{Branch, Fetched, Fetcher};
use pages::git::snapshot::Snapshot;
use pages::guard::lookup::{Guard, Resolve};
use pages::guard::policy::Policy;
use pages::publish::tree::Blob;
use pages::publish::tree::Objects as _;
use pages::publish::walk::{Bounds, walk};
use serde::Deserialize;
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The description that the builder writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    pub repositories: PathBuf,
    /// A program to push with.
    pub git: PathBuf,
    pub http: String,
    pub https: String,
    pub wrong: Wrong,
    pub ca: PathBuf,
    pub user: String,
    pub password: String,
    pub ssh: String,
    /// A private key that may log in; the list of public keys is next to it.
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    pub ssh_keygen: PathBuf,
}

/// Servers with certificates that clients must refuse.
#[derive(Debug, Deserialize)]
pub struct Wrong {
    pub unknown: String,
    pub other: String,
    pub expired: String,
}

/// An address needs no lookup, so none may happen.
#[derive(Debug)]
struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, host: &str, _: Duration) -> std::io::Result<Vec<std::net::IpAddr>> {
        panic!("{host} is looked up");
    }
}

impl Server {
    pub fn find() -> Self {
        let file = std::env::var_os("KILN_PAGES_GIT");
        let file = file.expect("KILN_PAGES_GIT is not set; run `cargo xtask test --no-vm`");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    /// Fetches as the syncer does; no address but those of loopback is contacted.
    pub fn fetcher(&self, limits: Limits) -> Fetcher {
        let policy = Policy {
            hosts: vec!["127.0.0.1".parse().unwrap()],
            plain: vec!["127.0.0.1".parse().unwrap()],
            networks: vec!["127.0.0.1/32".parse().unwrap()],
        };
        let ca = Certificate::from_pem(&std::fs::read(&self.ca).unwrap()).unwrap().to_owned();
        Fetcher {
            guard: Guard::new(policy, Arc::new(NoNames)),
            limits,
            tls: TlsConfig::builder().root_certs(RootCerts::from(vec![ca])).build(),
            known_hosts: None,
        }
    }

    /// Creates an empty repository, with a clone to work in.
    pub fn create(&self, name: &str, options: &[&str]) -> Work {
        let bare = self.repositories.join(format!("{name}.git"));
        if bare.exists() {
            std::fs::remove_dir_all(&bare).unwrap();
        }
        let work = Work { git: self.git.clone(), bare, folder: tempfile::tempdir().unwrap() };
        let bare = work.bare.to_str().unwrap().to_owned();
        work.run(&[&["init", "--quiet", "--bare"], options, &[&bare]].concat());
        work.run(&[&["init", "--quiet"], options].concat());
        work
    }
}

/// A clone.
pub struct Work {
    git: PathBuf,
    pub bare: PathBuf,
    pub folder: TempDir,
}

impl Work {
    /// Prepares a command of git in the clone.
    #[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.git);
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command
    }

    /// Runs git, and returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Makes a commit of these files alone; returns its name.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.run(&["rm", "-r", "--quiet", "--force", "--ignore-unmatch", "."]);
        for (path, content) in files {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--allow-empty", "--message", "x"]);
        self.run(&["rev-parse", "HEAD"])
    }

    /// Pushes the last commit to a branch.
    pub fn push(&self, url: &str, branch: &str) {
        self.run(&["push", "--quiet", url, &format!("HEAD:refs/heads/{branch}")]);
    }
}

pub fn limits() -> Limits {
    Limits { time: Duration::from_mins(1), ..Limits::default() }
}

/// The branch `main` of a repository.
pub fn branch(url: &str) -> Branch {
    Branch { url: url.parse().unwrap(), name: "main".to_owned(), login: None }
}

/// Fetches a branch into a folder that goes away with the result.
pub fn fetch(fetcher: &Fetcher, branch: &Branch) -> Result<Box<Snapshot>, Failure> {
    let folder = tempfile::tempdir().unwrap();
    match fetcher.fetch(branch, None, folder.path())? {
        Fetched::Commit(snapshot) => Ok(snapshot),
        Fetched::Unchanged => panic!("no commit is known"),
    }
}

/// Returns the paths of a commit with the contents of small files.
pub fn files(snapshot: &Snapshot) -> Vec<(String, String)> {
    let files = walk(snapshot, snapshot.root(), "", &Bounds::default()).unwrap().files;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let read = |id| match snapshot.file(id).unwrap() {
        Blob::Bytes(bytes) => text(&bytes),
        Blob::TooLarge => "too large".to_owned(),
    };
    files.iter().map(|(path, id)| (text(path), read(id))).collect()
}
