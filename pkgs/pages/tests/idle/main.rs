//! The cost of many sites that do not change, and of one change among them, at a real API server.
//!
//! It needs the variables of the target `cluster`, and reads `KILN_PAGES_SITES` (1,000 by default) and
//! `KILN_PAGES_SECONDS` (300 by default, the poll interval of the sites). It prints one line for each figure
//! and fails on no time.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stdout, reason = "a measurement is printed")]
#![allow(dead_code, reason = "a part of the other target's helpers is used")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../cluster/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use gix_hash::Kind;
use kiln_test_support::program::Program;
use kube::api::{ListParams, Patch, PatchParams};
use pages::api::Group;
use serde_json::{Value, json};

use common::{Repository, Server};
use rig::{NAMESPACE, Rig, condition, site, variable};

/// The account of the syncer.
const SYNCER: &str = "pages-syncer";

/// The number of namespaces.
const TEAMS: u64 = 10;

/// The ticks of a second in `/proc/PID/stat` (`sysconf(_SC_CLK_TCK)`, 100 on all of Linux' machines).
const TICKS: f64 = 100.0;

/// The time without a look before a measurement.
const QUIET: Duration = Duration::from_secs(20);

/// The longest wait for all sites.
const PATIENCE: Duration = Duration::from_mins(20);

/// The CPU seconds of a process so far.
fn cpu(program: &Program) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", program.child.id())).unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// The recorded requests of both roles so far, by account, verb and resource.
fn requests() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(variable("KILN_PAGES_AUDIT")).unwrap();
    let mut counts = BTreeMap::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let prefix = format!("system:serviceaccount:{NAMESPACE}:");
        let Some(account) = user.strip_prefix(&prefix) else { continue };
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let name = format!("{account} {} {}", text(&event["verb"]), text(&object["resource"]));
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Waits as a measurement does. No test depends on it.
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
async fn syncer(rig: &Rig, folder: &std::path::Path) -> Program {
    rig.install("syncer.yaml").await;
    let kubeconfig = folder.join("kubeconfig");
    rig.write_kubeconfig(SYNCER, &kubeconfig).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_pages"));
    command.args(["syncer", "--address=127.0.0.1", "--listen=127.0.0.1:0"]);
    command.args(["--git-host=localhost", "--git-plain-host=localhost"]);
    command.args(["--git-network=127.0.0.0/8", "--operations=127.0.0.1:0"]);
    command.arg("--data").arg(folder.join("data")).arg("--kubeconfig").arg(kubeconfig);
    let program = Program::start(command);
    program.until_log("leads");
    program
}

/// Creates the sites, and waits until all of them are published.
async fn publish(rig: &Rig, git: &Server, count: u64) {
    for team in 0..TEAMS {
        rig.namespace(&format!("idle-{team}")).await;
    }
    let start = Instant::now();
    let url = git.url("localhost");
    let all = stream::iter(0..count).map(|number| {
        let team = format!("idle-{}", number % TEAMS);
        rig.apply(site(&team, &format!("site-{number}"), &json!({ "repo": url })))
    });
    all.buffer_unordered(16).for_each(|_| std::future::ready(())).await;
    println!("{count} sites created in {:.1} s", start.elapsed().as_secs_f64());
    let sites = rig.api(&Group::Kiln.api_version(), "StaticSite", None);
    loop {
        let list = sites.list(&ListParams::default()).await.unwrap().items;
        let ready = list.iter().filter(|site| condition(site, "Ready")["reason"] == "Ready");
        let ready = ready.count() as u64;
        if ready >= count {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{ready} of {count} sites are ready");
        pause(Duration::from_secs(2)).await;
    }
    println!("{count} sites ready after {:.1} s", start.elapsed().as_secs_f64());
}

/// Measures one change, and prints the time until its effect and the operator's work for it.
async fn change(rig: &Rig, name: &str, patch: Value, is_done: impl Fn(&Value, &Value) -> bool) {
    let sites = rig.sites("idle-0");
    let operator = rig.operator.as_ref().unwrap();
    let (before, start) = (cpu(operator), Instant::now());
    let parameters = PatchParams::default();
    sites.patch("site-0", &parameters, &Patch::Merge(patch)).await.unwrap();
    let time = loop {
        let site = sites.get("site-0").await.unwrap();
        if is_done(&condition(&site, "Routed"), &json!(site.metadata.generation)) {
            break start.elapsed();
        }
        pause(Duration::from_millis(5)).await;
    };
    pause(Duration::from_secs(1)).await;
    let (time, work) = (time.as_secs_f64() * 1000.0, (cpu(operator) - before) * 1000.0);
    println!("{name}: in effect after {time:.0} ms, {work:.0} ms of the operator's CPU");
}

#[tokio::test]
async fn many_sites_that_do_not_change() {
    let count = number("KILN_PAGES_SITES", 1000);
    let time = Duration::from_secs(number("KILN_PAGES_SECONDS", 300));
    let mut rig = Rig::start().await;
    rig.run(&["--recheck=300"]);
    let folder = tempfile::tempdir().unwrap();
    let syncer = syncer(&rig, folder.path()).await;
    let git = Server::start(Repository::new(Kind::Sha1));
    git.repository.lock().unwrap().push("main", &[("index.html", "one")]);
    publish(&rig, &git, count).await;
    pause(QUIET).await;
    let spec = |field: &str, value: &str| json!({ "spec": { field: value } });
    for interval in ["6m", "7m", "5m"] {
        let patch = spec("syncInterval", interval);
        change(&rig, "a change of one site's interval", patch, |routed, generation| {
            routed["observedGeneration"] == *generation
        })
        .await;
    }
    for name in ["a", "b"] {
        let host = format!("{name}.idle-0.pages.test");
        let patch = spec("domain", &host);
        change(&rig, "a change of one site's domain", patch, |routed, _| {
            routed["message"].to_string().contains(&host)
        })
        .await;
    }
    pause(QUIET).await;
    let operator = rig.operator.as_ref().unwrap();
    let (before, calls) = ([cpu(operator), cpu(&syncer)], requests());
    let connections = git.connections.load(Ordering::Relaxed);
    pause(time).await;
    let seconds = time.as_secs_f64();
    for (name, program, before) in
        [("operator", operator, before[0]), ("syncer", &syncer, before[1])]
    {
        let share = (cpu(program) - before) / seconds * 100.0;
        let memory = program.memory("VmRSS:") / 1024;
        println!("idle {name}: {share:.2} % of one core, {memory} MiB resident");
    }
    for (name, count) in requests() {
        let new = count - calls.get(&name).copied().unwrap_or_default();
        if new > 0 {
            println!("idle API calls in {seconds:.0} s: {name} {new}");
        }
    }
    println!(
        "idle requests to git in {seconds:.0} s: {}",
        git.connections.load(Ordering::Relaxed) - connections
    );
}
