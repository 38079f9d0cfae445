//! `pages` with many sites: the time from a push to its page, memory, and the cost of being idle.
//!
//! The API server, etcd and the git server are real and run on the same machine. They and the load
//! take most of its processors, so times are upper bounds.

mod push;
mod repository;
mod roles;
mod visitor;

use std::fs;
use std::io::BufRead as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kiln_host::process::{self, Command};
use kiln_host::{eprintln, job, println};
use serde_json::{Value, json};

use push::{Pushed, Sites};
use roles::Roles;
use visitor::NAMESPACES;

/// The API group and version of sites.
const API: &str = "pages.kiln.local/v1beta1";

/// The longest time until all sites are served for the first time, for each site.
const FIRST_MAX: Duration = Duration::from_secs(1);

/// The pause after the first publication, so that writes of the status are over.
const SETTLE: Duration = Duration::from_secs(20);

/// The accounts of the roles that call the API server.
const ACCOUNTS: [&str; 2] = ["pages-operator", "pages-syncer"];

/// Runs all phases and prints the table, which is Markdown.
pub fn measure(job: &job::Pages) -> Result<()> {
    let sites = Sites::create(&job.repositories, &job.git, job.sites)?;
    let mut roles = Roles::start(job)?;
    let start = Instant::now();
    apply(job, &sites)?;
    let patience = FIRST_MAX * u32::try_from(job.sites).unwrap_or(u32::MAX);
    sites.wait_until_served(&mut roles, patience)?;
    println!("| what | figure |\n| --- | --- |");
    println!("| {} sites created and served | {:.1} s |", job.sites, start.elapsed().as_secs_f64());
    idle(job, &mut roles)?;
    let pushed = sites.push(&mut roles, job.rate, job.pushes)?;
    report(job, &pushed);
    memory(&mut roles)
}

/// Creates the namespaces and the sites.
fn apply(job: &job::Pages, sites: &Sites) -> Result<()> {
    let namespaces = NAMESPACES.min(sites.len());
    let namespace = |number| {
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": format!("team-{number}") },
        })
    };
    let site = |number: usize| {
        let namespace = format!("team-{}", number % NAMESPACES);
        json!({
            "apiVersion": API, "kind": "StaticSite",
            "metadata": { "name": format!("site-{number}"), "namespace": namespace },
            "spec": { "repo": sites.url(number) },
        })
    };
    create(job, &(0..namespaces).map(namespace).collect::<Vec<_>>())?;
    create(job, &(0..sites.len()).map(site).collect::<Vec<_>>())
}

fn create(job: &job::Pages, items: &[Value]) -> Result<()> {
    let path = job.scratch.join("objects.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    fs::write(&path, list.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let create = Command::new(&job.kubectl).arg("--kubeconfig").arg(&job.admin);
    create.args(["create", "--filename"]).arg(&path).output().map(drop)
}

/// Counts processor time and requests while nothing is pushed.
fn idle(job: &job::Pages, roles: &mut Roles) -> Result<()> {
    thread::sleep(SETTLE);
    let requests = requests(&job.audit)?;
    let before = processor(roles)?;
    let start = Instant::now();
    while start.elapsed() < job.idle {
        process::check_interrupt()?;
        roles.check()?;
        thread::sleep(Duration::from_millis(200));
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = processor(roles)?;
    let asked = self::requests(&job.audit)? - requests;
    let mut sum = 0.0;
    for (role, (before, after)) in roles.all.iter().zip(before.into_iter().zip(after)) {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let share = (after - before) as f64 / 1e9 / seconds * 100.0;
        println!("| {} while idle, of one core | {share:.2} % |", role.name);
        sum += share;
    }
    println!("| all roles while idle, of one core | {sum:.2} % |");
    println!("| requests to the API server in {seconds:.0} idle seconds | {asked} |");
    Ok(())
}

fn processor(roles: &mut Roles) -> Result<Vec<u64>> {
    roles.all.iter_mut().map(roles::Role::processor).collect()
}

/// Returns the number of requests that the roles have sent to the API server, by its own record.
fn requests(audit: &Path) -> Result<usize> {
    let context = || format!("cannot read {}", audit.display());
    let file = fs::File::open(audit).with_context(context)?;
    let mut count = 0;
    for line in std::io::BufReader::new(file).lines() {
        let line = line.with_context(context)?;
        count += usize::from(ACCOUNTS.iter().any(|account| line.contains(account)));
    }
    Ok(count)
}

fn report(job: &job::Pages, pushed: &Pushed) {
    let Pushed { seconds, answers } = pushed;
    let at = |share: usize| seconds.get((seconds.len() * share / 100).min(seconds.len() - 1));
    let shown = |share| at(share).copied().unwrap_or_default();
    println!("| pushes, {} a second | {} |", job.rate, seconds.len());
    for (name, share) in [("median", 50), ("p90", 90), ("p99", 99), ("slowest", 100)] {
        println!("| push to served page, {name} | {:.2} s |", shown(share));
    }
    println!("| answers to visitors meanwhile, all whole | {answers} |");
    if seconds.len() < job.pushes {
        eprintln!("only {} of {} pushes were served", seconds.len(), job.pushes);
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn memory(roles: &mut Roles) -> Result<()> {
    let mut both = 0;
    for role in &mut roles.all {
        let peak = role.peak()?;
        println!("| largest resident memory of {} | {:.1} MiB |", role.name, peak as f64 / 1024.0);
        both += if role.name == "serve" { 0 } else { peak };
    }
    println!("| operator and syncer together | {:.1} MiB |", both as f64 / 1024.0);
    Ok(())
}
