//! The pages service in a cluster on this host: a git server, three sites, and pushes.
//!
//! It is installed as a user does it, by `kubectl apply -k manifests/pages` with a kustomization of its
//! own. Only two parts are those of a trial: the git server runs on the host, and `kubectl port-forward`
//! takes the place of a gateway.

mod forge;
mod objects;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kiln_host::println;

use super::component::Component;
use super::git::{self, Commit, GitServer};
use super::{Cluster, kustomize};
use crate::digest::Digest;
use crate::image::oci::Layout;
use crate::port;
use crate::process;
use crate::progress::Progress;
use crate::qemu::{LOOK, segment};
use objects::{DOMAIN, SITES, Site};
pub use objects::{LABEL, NAMESPACE};

/// The folder in the cluster's state.
const FOLDER: &str = "pages";

/// The branch of all sites.
const BRANCH: &str = "main";

/// The longest time until a page has the expected content, in an emulated machine on a busy host.
const PAGE_MAX: Duration = Duration::from_mins(3);

/// The longest time for one request.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The text that the first push of the demonstration replaces, and the new one.
const CHANGE: [&str; 2] = ["<h1>Blog</h1>", "<h1>Blog, second edition</h1>"];

/// The programs and files that the service is installed with and from.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The programs of the git server.
    pub git: git::Programs,
    /// The folder `manifests`.
    pub manifests: PathBuf,
    /// The folder with the content of the sites.
    pub content: PathBuf,
    /// The image with its name.
    pub image: (String, Layout),
    /// The program that pushes images.
    pub crane: crate::host::HostTool,
}

/// The installed service.
#[derive(Debug)]
pub struct Installed {
    git: GitServer,
    secret: String,
    /// The commit of each branch whose webhook was delivered.
    delivered: BTreeMap<&'static str, String>,
    forwards: Option<Forwards>,
}

/// The ways from the host to two Services.
#[derive(Debug)]
struct Forwards {
    visitors: (Component, u16),
    webhooks: (Component, u16),
}

/// Starts the git server, pushes the image and the sites, and applies the manifests.
pub fn install(pages: &Pages, cluster: &Cluster, progress: &Progress) -> Result<Installed> {
    let task = progress.task("pages", Some(3));
    task.note("git server");
    let folder = cluster.state.path(FOLDER);
    // Nodes reach the host's loopback address by another one.
    let settings = git::Settings { listen: Ipv4Addr::LOCALHOST, address: segment::HOST };
    let git = GitServer::start(&pages.git, &folder.join("git"), settings)?;
    for site in SITES {
        let files = files(&pages.content.join(site.name))?;
        git.create(site.name)?;
        push(&git, site, &files)?;
    }
    task.advance(1);
    let (name, layout) = &pages.image;
    task.note(name);
    let registry = cluster.registry.as_ref().context("the cluster has no registry")?;
    let digest = registry.push(&pages.crane, &cluster.state, name, layout)?;
    task.advance(1);
    task.note("kubectl apply -k");
    let (token, secret) = (random("token"), random("secret"));
    apply(pages, cluster, &folder, &digest).context("cannot install pages")?;
    cluster.apply(&objects::sites(&git.http_url(), &token, &secret)).context("cannot add sites")?;
    task.done();
    let mut installed = Installed { git, secret, delivered: BTreeMap::new(), forwards: None };
    for site in SITES {
        // The first fetch needs no webhook.
        installed.delivered.insert(site.name, installed.git.head(site.name, BRANCH)?);
    }
    Ok(installed)
}

fn apply(pages: &Pages, cluster: &Cluster, folder: &Path, digest: &Digest) -> Result<()> {
    for part in ["crd", "pages"] {
        kustomize::copy(&pages.manifests.join(part), &folder.join(part))?;
    }
    let kustomization = objects::kustomization("pages", &pages.image.0, digest);
    kustomize::apply(cluster, folder, &kustomization)?;
    let definition = "customresourcedefinitions/staticsites.pages.kiln.local";
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", definition];
    cluster.kubectl().args(wait).output().map(drop)
}

/// Returns the files of a folder, by their names.
fn files(folder: &Path) -> Result<Vec<(String, String)>> {
    let context = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, fs::read_to_string(&path).with_context(context)?));
    }
    files.sort();
    Ok(files)
}

fn push(git: &GitServer, site: Site, files: &[(String, String)]) -> Result<String> {
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    git.push(Commit { repository: site.name, branch: BRANCH, files: &files })
}

/// Returns a text that no other run has.
fn random(what: &str) -> String {
    let seed = format!("{what} {:?} {}", std::time::SystemTime::now(), std::process::id());
    Digest::of_bytes(seed.as_bytes()).to_string()
}

impl Installed {
    /// Shows the sites, pushes a change to one of them, and waits for its page.
    pub fn show(&mut self, pages: &Pages, cluster: &Cluster) -> Result<()> {
        self.forwards = Some(Forwards::start(cluster)?);
        for site in SITES {
            self.wait_for(site, |body| !body.is_empty())?;
        }
        let site = SITES[0];
        let mut files = files(&pages.content.join(site.name))?;
        for (_, text) in &mut files {
            *text = text.replace(CHANGE[0], CHANGE[1]);
        }
        let start = Instant::now();
        push(&self.git, site, &files)?;
        self.deliver(site)?;
        self.wait_for(site, |body| body.contains(CHANGE[1]))?;
        println!("a push to {}: its page is served after {:.1} s", site.name, seconds(start));
        self.explain()
    }

    fn explain(&self) -> Result<()> {
        println!("\nthe sites, each with its repository:");
        for site in SITES {
            println!("  {}   {}/{}.git", self.url(site)?, self.git.local_url(), site.name);
        }
        println!(
            "clone a repository, change a file and push: the webhook is sent for you\n\
             kubectl get staticsites --all-namespaces\n"
        );
        Ok(())
    }

    /// Sends the webhook of each branch that has changed.
    pub fn turn(&mut self, cluster: &Cluster) -> Result<()> {
        self.git.check()?;
        for site in SITES {
            let head = self.git.head(site.name, BRANCH)?;
            if self.delivered.get(site.name) == Some(&head) {
                continue;
            }
            let start = Instant::now();
            self.deliver(site)?;
            let commit = head.get(..7).unwrap_or(&head);
            while published(cluster, site)? != head {
                if start.elapsed() > PAGE_MAX {
                    println!("{}: commit {commit} is not published; `kubectl describe`", site.name);
                    return Ok(());
                }
                std::thread::sleep(LOOK);
            }
            println!("{}: commit {commit} published after {:.1} s", site.name, seconds(start));
        }
        Ok(())
    }

    fn deliver(&mut self, site: Site) -> Result<()> {
        let forwards = self.forwards.as_ref().context("the Services are not forwarded yet")?;
        let url = format!("http://127.0.0.1:{}", forwards.webhooks.1);
        let repository = format!("{}/{}.git", self.git.http_url(), site.name);
        let head = self.git.head(site.name, BRANCH)?;
        forge::deliver(&url, site, &repository, &self.secret, &head)?;
        self.delivered.insert(site.name, head);
        Ok(())
    }

    fn url(&self, site: Site) -> Result<String> {
        let forwards = self.forwards.as_ref().context("the Services are not forwarded yet")?;
        Ok(format!("http://{}:{}/", site.host(), forwards.visitors.1))
    }

    /// Returns the first page of a site; an empty text if it has none.
    fn page(&self, site: Site) -> Result<String> {
        let forwards = self.forwards.as_ref().context("the Services are not forwarded yet")?;
        let url = format!("http://127.0.0.1:{}/", forwards.visitors.1);
        let answer = crate::qemu::get_as(&url, &site.host(), ANSWER_MAX);
        let page = answer.ok().filter(|answer| answer.status == 200);
        Ok(page.map(|page| page.body).unwrap_or_default())
    }

    fn wait_for(&mut self, site: Site, is_so: impl Fn(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        while !is_so(&self.page(site)?) {
            process::check_interrupt()?;
            self.git.check()?;
            if let Some(forwards) = &mut self.forwards {
                forwards.visitors.0.check()?;
                forwards.webhooks.0.check()?;
            }
            ensure!(
                start.elapsed() < PAGE_MAX,
                "{}.{DOMAIN} has no new page after {} s; `kubectl describe staticsites` has the reason",
                site.name,
                PAGE_MAX.as_secs()
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Stops the git server.
    pub fn stop(self) -> Result<()> {
        if let Some(forwards) = self.forwards {
            forwards.visitors.0.stop()?;
            forwards.webhooks.0.stop()?;
        }
        self.git.stop()
    }
}

/// Returns the published commit of a site; an empty text if it has none.
fn published(cluster: &Cluster, site: Site) -> Result<String> {
    let output = "--output=jsonpath={.status.revision.commit}";
    let arguments = ["get", "staticsite", site.name, "--namespace", site.namespace, output];
    Ok(cluster.ask(&arguments.map(str::to_owned))?.output)
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

impl Forwards {
    fn start(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            visitors: forward(cluster, "pages-serve", 80)?,
            webhooks: forward(cluster, "pages-syncer", 8080)?,
        })
    }
}

/// Forwards a free port of this host to a Service.
fn forward(cluster: &Cluster, service: &'static str, to: u16) -> Result<(Component, u16)> {
    let port = port::free()?;
    let command = cluster.kubectl().args(["port-forward", "--namespace", NAMESPACE]);
    let command = command.arg(format!("service/{service}")).arg(format!("{port}:{to}"));
    Ok((Component::start(service, command, &cluster.state.logs())?, port))
}
