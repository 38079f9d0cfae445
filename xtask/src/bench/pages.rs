//! `bench pages`: an API server and a git server, and a job that names them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_host::job::{self, Job};

use crate::build::{Builder, machine};
use crate::cluster::git::{GitServer, Settings};
use crate::cluster::{ApiServer, State, pki};
use crate::config::PAGES;
use crate::plan::staged;
use crate::process::Command;

/// The folder for the cluster, repositories, data and logs, below the workspace; cleared first.
const FOLDER: &str = "target/kiln/pages";

/// The namespace of the program.
const NAMESPACE: &str = "kiln-pages";

/// A choice of the user.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of sites.
    pub sites: usize,
    /// The length of the idle phase.
    pub idle: Duration,
    /// Pushes in a second.
    pub rate: u32,
    /// The number of pushes.
    pub pushes: usize,
}

/// Measures the pages service, or `program` in its place.
pub fn measure(builder: &Builder, program: Option<PathBuf>, load: Load) -> Result<()> {
    let programs = machine::control_plane(builder)?;
    let pages = match program {
        Some(program) => std::path::absolute(program)?,
        None => builder.make(&[&staged(PAGES)])?[&staged(PAGES)].file(PAGES)?,
    };
    let folder = builder.inputs.workspace.join(FOLDER);
    let _ = fs::remove_dir_all(&folder);
    let scratch = folder.join("data");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let state = State::open(&folder.join("cluster"))?;
    let server = ApiServer::start(&programs, &state)?;
    let settings = Settings { listen: Ipv4Addr::LOCALHOST, address: Ipv4Addr::LOCALHOST };
    let mut git = GitServer::start(&machine::git_server(builder)?, &folder.join("git"), settings)?;
    let admin = state.kubeconfig("kubeconfig", pki::ADMIN, &server.url())?;
    let kubectl = programs.kubernetes.join("kubectl");
    let asks = |arguments: &[&str]| {
        let command = Command::new(&kubectl).arg("--kubeconfig").arg(&admin);
        command.args(arguments).read()
    };
    let manifests = builder.inputs.workspace.join("manifests/pages");
    let manifests = manifests.to_str().context("the workspace's path is not UTF-8")?;
    asks(&["apply", "--server-side", "-k", manifests]).context("cannot install pages")?;
    let account = |role: &str| {
        let token = asks(&["create", "token", role, "--namespace", NAMESPACE, "--duration=12h"])?;
        kubeconfig(&admin, &scratch.join(role), token.trim())
    };
    let Load { sites, idle, rate, pushes } = load;
    let job = Job::Pages(job::Pages {
        pages,
        operator: account("pages-operator")?,
        syncer: account("pages-syncer")?,
        kubectl: kubectl.clone(),
        admin: admin.clone(),
        audit: state.audit(),
        git: git.http_url(),
        repositories: git.repositories(),
        scratch,
        sites,
        idle,
        rate,
        pushes,
    });
    let result = super::start(builder, &job);
    git.check()?;
    git.stop()?;
    server.stop()?;
    result
}

/// Writes a copy of a kubeconfig with a token in place of the certificate.
fn kubeconfig(admin: &Path, path: &Path, token: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(admin).context("cannot read the kubeconfig")?;
    let mut file: serde_json::Value =
        serde_json::from_str(&text).context("the kubeconfig is not JSON")?;
    file["users"][0]["user"] = serde_json::json!({ "token": token });
    fs::write(path, file.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.to_owned())
}
