//! Gateways side by side: ours, haproxy with splice, nginx's stream module, and a bare splice loop.
//!
//! One processor for the gateway, one for its clients and its backend, which are one program
//! (`benches/relay`). Gateways take turns, round by round. Seconds mean little by themselves; the
//! ratio of two runs that follow each other does. `docs/benchmarks.md` says how to read the table.

mod peers;
mod table;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::build::Builder;
use crate::process::{self, Command};
use crate::web::usage;
use peers::{Gateway, KINDS, Programs};
use table::Sample;

/// How gateways are compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// Times that each gateway runs each case, in turn with the others.
    pub rounds: usize,
    /// How long one run is.
    pub time: Duration,
    /// Another program in place of the image's gateway.
    pub program: Option<PathBuf>,
    /// Connections that are held for the figure of memory.
    pub idle: usize,
}

/// Connections at once of the case `new`.
const NEW: usize = 64;

/// Connections of the case `bulk`.
const BULK: usize = 4;

/// How long one connection after the other is opened before anything is measured.
const WARM_UP: Duration = Duration::from_millis(50);

/// The processors of gateway and load.
#[derive(Debug, Clone, Copy)]
struct Cores {
    gateway: usize,
    load: usize,
}

/// The load's line.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Told {
    connections: u64,
    bytes: u64,
    p99_us: u64,
    wall_us: u64,
}

/// Runs everything and prints the table, which is Markdown.
pub fn gateways(builder: &Builder, options: &Options) -> Result<()> {
    let cores = cores()?;
    let programs = Programs::make(builder, options.program.clone())?;
    let scratch = builder.inputs.workspace.join("target/kiln/gateway");
    let _ = std::fs::remove_dir_all(&scratch);
    let mut rows: Vec<Vec<Sample>> = KINDS.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for at in 0..KINDS.len() {
            process::check_interrupt()?;
            // Another one begins each round, so that none always follows the same.
            let at = (at + round) % KINDS.len();
            let folder = scratch.join(format!("{round}-{at}"));
            let mut gateway = programs.start(KINDS[at], &folder, cores.gateway)?;
            let sample = one(&programs, &mut gateway, cores, options)
                .with_context(|| format!("round {}: {}", round + 1, KINDS[at].name()))?;
            rows[at].push(sample);
        }
    }
    print!("{}", table::render(&rows));
    Ok(())
}

/// The first two processors that this process may use.
fn cores() -> Result<Cores> {
    let set = rustix::thread::sched_getaffinity(None).context("cannot ask for processors")?;
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
    let pair = cores.next().zip(cores.next());
    let (load, gateway) = pair.context("two processors are needed: one is the gateway's alone")?;
    Ok(Cores { gateway, load })
}

/// All cases of one gateway, which was just started.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn one(
    programs: &Programs,
    gateway: &mut Gateway,
    cores: Cores,
    options: &Options,
) -> Result<Sample> {
    // It listens before its workers are there; an answer shows that they are.
    command(programs, gateway, "new", 1, WARM_UP).on_core(cores.load).read()?;
    let processes = gateway.processes()?;
    let base = usage::memory(&processes)?.proportional;
    let load = |mode: &str, count: usize| -> Result<(Told, u64)> {
        let before = usage::processor(&processes)?;
        let told =
            command(programs, gateway, mode, count, options.time).on_core(cores.load).read()?;
        let spent = usage::processor(&processes)? - before;
        Ok((serde_json::from_str(&told)?, spent))
    };
    // Memory first: what earlier runs left behind would hide it.
    let idle = idle(programs, gateway, &processes, cores, options)?;
    let (new, new_spent) = load("new", NEW)?;
    let (bulk, bulk_spent) = load("bulk", BULK)?;
    Ok(Sample {
        connection: new_spent as f64 / new.connections as f64 / 1e3,
        p99: new.p99_us as f64 / 1e3,
        gib: bulk_spent as f64 / (bulk.bytes as f64 / f64::from(1 << 30)) / 1e6,
        throughput: bulk.bytes as f64 / bulk.wall_us as f64,
        idle,
        base: base as f64 / 1024.0,
    })
}

fn command(
    programs: &Programs,
    gateway: &Gateway,
    mode: &str,
    count: usize,
    time: Duration,
) -> Command {
    Command::new(programs.bench.join("relay-load"))
        .args([gateway.address.to_string(), gateway.backend.to_string(), mode.to_owned()])
        .args([count.to_string(), time.as_millis().to_string()])
}

/// KiB of memory of its own that a gateway needs for a connection on which nothing happens.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn idle(
    programs: &Programs,
    gateway: &Gateway,
    processes: &[u32],
    cores: Cores,
    options: &Options,
) -> Result<f64> {
    let before = usage::memory(processes)?.held;
    let load = command(programs, gateway, "idle", options.idle, options.time).on_core(cores.load);
    let mut running = load.piped().output_to(Stdio::piped(), Stdio::inherit()).spawn()?;
    let stdout = running.child().stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("the load says nothing")?;
    serde_json::from_str::<Told>(&line).with_context(|| format!("the load says {line:?}"))?;
    let after = usage::memory(processes)?.held;
    let mut stdin = running.child().stdin.take().context("no input")?;
    stdin.flush()?;
    drop(stdin);
    running.wait()?;
    Ok(after.saturating_sub(before) as f64 / options.idle as f64)
}
