//! Web servers next to each other: ours, others, and bare loops that no server can beat.
//!
//! The servers have one processor and the client the other, in turn for several rounds. Seconds
//! mean little by themselves; the ratio of two runs that follow each other does.
//! `docs/benchmarks.md` has each server's configuration and explains the tables.

mod run;
mod startup;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln_host::job::StaticServer;
use kiln_host::process;
use kiln_host::{print, println};

use crate::cores::Cores;
use crate::servers::{self, Kind, Place, Server};
use crate::usage;
use run::{CASES, Sample};
use table::Results;

/// The servers that listen during the runs.
const SERVERS: [Kind; 8] = [
    Kind::Ours,
    Kind::Pack,
    Kind::Nginx,
    Kind::NginxCached,
    Kind::Lighttpd,
    Kind::H2o,
    Kind::Floor,
    Kind::FloorSendfile,
];

/// Runs everything and prints the tables, which are Markdown.
pub fn servers(job: &StaticServer) -> Result<()> {
    let cores = Cores::choose()?;
    let _ = fs::remove_dir_all(&job.scratch);
    let site = job.scratch.join("site");
    content(&site)?;
    let mut servers = start(job, &site, cores)?;
    let results = rounds(job, &mut servers, cores)?;
    print!("{}", results.render());
    println!("\n{}", memory(&mut servers)?);
    drop(servers);
    if job.cases.is_empty() {
        print!("{}", startup::measure(job, cores.measured)?);
    }
    if let Some(path) = &job.svg {
        fs::write(path, svg::render(&results))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Writes one file for each case: text that compresses, or bytes that do not.
fn content(site: &Path) -> Result<()> {
    fs::create_dir_all(site).with_context(|| format!("cannot create {}", site.display()))?;
    for case in &CASES {
        let mut state = case.length as u64;
        let byte = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = if case.name.ends_with(" of text") {
            startup::text(case.length, 1)
        } else {
            (0..case.length).map(byte).collect()
        };
        let path = site.join(case.path.trim_start_matches('/'));
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn start(job: &StaticServer, site: &Path, cores: Cores) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for kind in SERVERS {
        let content = startup::content_of(&job.packer, kind, site)?;
        let place = Place {
            content: &content,
            scratch: &job.scratch.join(format!("{kind:?}")),
            core: Some(cores.measured),
            probe: CASES[0].path,
        };
        servers.push(servers::start(&job.programs, kind, place)?);
    }
    Ok(servers)
}

fn rounds(job: &StaticServer, servers: &mut [Server], cores: Cores) -> Result<Results> {
    let wanted = |name: &str| {
        job.cases.is_empty() || job.cases.iter().any(|case| name.contains(case.as_str()))
    };
    let cases: Vec<_> = CASES.iter().filter(|case| wanted(case.name)).collect();
    ensure!(
        !cases.is_empty(),
        "no case matches `--case`; the cases are {:?}",
        CASES.map(|case| case.name)
    );
    let families = servers.iter_mut().map(Server::processes).collect::<Result<Vec<_>>>()?;
    let mut results = Results::default();
    let most = cases.iter().map(|case| case.rounds_min()).max().unwrap_or(1);
    for round in 0..job.runs.rounds.max(most) {
        for case in &cases {
            if round >= job.runs.rounds.max(case.rounds_min()) {
                continue;
            }
            for at in 0..servers.len() {
                process::check_interrupt()?;
                // Each round begins with a different server, so that no server always follows the
                // same one.
                let at = (at + round) % servers.len();
                let sample: Sample = run::one(job, case, &servers[at], &families[at], cores)?;
                results.add(case, servers[at].kind, sample);
            }
        }
    }
    Ok(results)
}

/// Renders the memory of the servers after all runs.
fn memory(servers: &mut [Server]) -> Result<String> {
    let mut rows = Vec::new();
    for server in servers.iter_mut().filter(|server| !server.kind.is_floor()) {
        let memory = usage::memory(&server.processes()?)?;
        rows.push([
            server.kind.name().to_owned(),
            memory.held.to_string(),
            memory.proportional.to_string(),
        ]);
    }
    Ok(table::markdown(
        "Memory after all runs, KiB",
        ["server", "anonymous + shared", "with its share of files (PSS)"],
        &rows,
    ))
}
