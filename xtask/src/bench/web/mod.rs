//! Web servers side by side: ours, others, and bare loops that no server can be faster than.
//!
//! One processor for the servers, one for the client, in turn for several rounds. Seconds mean
//! little by themselves; the ratio of two runs that follow each other does.
//! `docs/benchmarks.md` says how each server is configured and how to read the tables.

mod run;
mod startup;
mod svg;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::build::Builder;
use crate::process;
use crate::web::{Kind, Place, Programs, Server, usage};
use run::{CASES, Sample};
use table::Results;

/// How servers are compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// Times that each server runs each case, in turn with the others.
    pub rounds: usize,
    /// How long one run is.
    pub time: Duration,
    /// Another program in place of the image's static server.
    pub program: Option<PathBuf>,
    /// Only cases whose name contains one of these; all when there is none.
    pub cases: Vec<String>,
    /// Where to draw the processor time.
    pub svg: Option<PathBuf>,
}

/// Everything that listens during the runs.
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

/// The processors of server and client.
#[derive(Debug, Clone, Copy)]
struct Cores {
    server: usize,
    client: usize,
}

/// Runs everything and prints the tables, which are Markdown.
pub fn servers(builder: &Builder, options: &Options) -> Result<()> {
    let cores = Cores::choose()?;
    let programs = Programs::make(builder, options.program.clone())?;
    let scratch = builder.inputs.workspace.join("target/kiln/web");
    let _ = fs::remove_dir_all(&scratch);
    let site = scratch.join("site");
    content(&site)?;
    let mut servers = start(&programs, &scratch, &site, cores)?;
    let results = rounds(&programs, &mut servers, cores, options)?;
    print!("{}", results.render());
    println!("\n{}", memory(&mut servers)?);
    drop(servers);
    if options.cases.is_empty() {
        print!("{}", startup::measure(&programs, &scratch, cores.server, options.rounds)?);
    }
    if let Some(path) = &options.svg {
        fs::write(path, svg::render(&results))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Cores {
    /// The first two processors that this process may use.
    fn choose() -> Result<Self> {
        let set = rustix::thread::sched_getaffinity(None).context("cannot ask for processors")?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let pair = cores.next().zip(cores.next());
        let (client, server) =
            pair.context("two processors are needed: one for the server, one for the client")?;
        Ok(Self { server, client })
    }
}

/// One file for each length, of bytes that do not repeat.
fn content(site: &Path) -> Result<()> {
    fs::create_dir_all(site).with_context(|| format!("cannot make {}", site.display()))?;
    for case in &CASES {
        let mut state = case.length as u64;
        let byte = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..case.length).map(byte).collect();
        let path = site.join(case.path.trim_start_matches('/'));
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn start(programs: &Programs, scratch: &Path, site: &Path, cores: Cores) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for kind in SERVERS {
        let content = startup::content_of(programs, kind, site)?;
        let place = Place {
            content: &content,
            scratch: &scratch.join(format!("{kind:?}")),
            core: Some(cores.server),
            probe: CASES[0].path,
        };
        servers.push(programs.start(kind, place)?);
    }
    Ok(servers)
}

fn rounds(
    programs: &Programs,
    servers: &mut [Server],
    cores: Cores,
    options: &Options,
) -> Result<Results> {
    let wanted = |name: &str| {
        options.cases.is_empty() || options.cases.iter().any(|case| name.contains(case.as_str()))
    };
    let cases: Vec<_> = CASES.iter().filter(|case| wanted(case.name)).collect();
    ensure!(
        !cases.is_empty(),
        "no case has such a name; there are {:?}",
        CASES.map(|case| case.name)
    );
    let families = servers.iter_mut().map(Server::processes).collect::<Result<Vec<_>>>()?;
    let mut results = Results::default();
    for round in 0..options.rounds {
        for case in &cases {
            for at in 0..servers.len() {
                process::check_interrupt()?;
                // Another one begins each round, so that none always follows the same.
                let at = (at + round) % servers.len();
                let sample: Sample =
                    run::one(programs, case, &servers[at], &families[at], cores, options.time)?;
                results.add(case, servers[at].kind, sample);
            }
        }
    }
    Ok(results)
}

/// Memory after all runs.
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
        "Memory after all that, KiB",
        ["server", "anonymous + shared", "with its share of files (PSS)"],
        &rows,
    ))
}
