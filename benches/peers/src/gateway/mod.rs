//! Gateways next to each other: ours, haproxy with splice, nginx's stream module, and a bare splice
//! loop.
//!
//! The gateway has one processor; its clients and its backend, which are one program
//! (`benches/relay`), have the other. Gateways take turns, round by round. Seconds mean little by
//! themselves; the ratio of two runs that follow each other does. `docs/benchmarks.md` explains the
//! table.

mod peers;
mod table;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kiln_host::job;
use kiln_host::print;
use kiln_host::process::{self, Command};
use serde::Deserialize;

use crate::cores::Cores;
use crate::usage;
use peers::{Gateway, KINDS, Programs};
use table::Sample;

/// Connections of the case `new` that are open at the same time.
const NEW: usize = 64;

/// Connections of the case `bulk`.
const BULK: usize = 4;

/// The length of the warm-up, in which connections are opened one after the other.
const WARM_UP: Duration = Duration::from_millis(50);

/// The line that the load generator prints.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Told {
    connections: u64,
    bytes: u64,
    p99_us: u64,
    wall_us: u64,
}

/// Runs everything and prints the table, which is Markdown.
pub fn gateways(job: &job::Gateway) -> Result<()> {
    let cores = Cores::choose()?;
    let programs = Programs::new(&job.programs)?;
    let _ = std::fs::remove_dir_all(&job.scratch);
    let mut rows: Vec<Vec<Sample>> = KINDS.iter().map(|_| Vec::new()).collect();
    for round in 0..job.runs.rounds {
        for at in 0..KINDS.len() {
            process::check_interrupt()?;
            // Each round begins with a different gateway, so that no gateway always follows the same
            // one.
            let at = (at + round) % KINDS.len();
            let folder = job.scratch.join(format!("{round}-{at}"));
            let mut gateway = programs.start(KINDS[at], &folder, cores.measured)?;
            let sample = one(&programs, &mut gateway, cores, job)
                .with_context(|| format!("round {}: {}", round + 1, KINDS[at].name()))?;
            rows[at].push(sample);
        }
    }
    print!("{}", table::render(&rows));
    Ok(())
}

/// Measures all cases of a gateway that was just started.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn one(
    programs: &Programs<'_>,
    gateway: &mut Gateway,
    cores: Cores,
    job: &job::Gateway,
) -> Result<Sample> {
    // A gateway listens before its workers run; an answer shows that they do.
    command(programs, gateway, "new", 1, WARM_UP).on_core(cores.load).read()?;
    let processes = gateway.processes()?;
    let base = usage::memory(&processes)?.proportional;
    let load = |mode: &str, count: usize| -> Result<(Told, u64)> {
        let before = usage::processor(&processes)?;
        let told =
            command(programs, gateway, mode, count, job.runs.time).on_core(cores.load).read()?;
        let spent = usage::processor(&processes)? - before;
        Ok((serde_json::from_str(&told)?, spent))
    };
    // Memory is measured first, because buffers of earlier runs would hide it.
    let idle = idle(programs, gateway, &processes, cores, job)?;
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
    programs: &Programs<'_>,
    gateway: &Gateway,
    mode: &str,
    count: usize,
    time: Duration,
) -> Command {
    Command::new(programs.load.join("relay-load"))
        .args([gateway.address.to_string(), gateway.backend.to_string(), mode.to_owned()])
        .args([count.to_string(), time.as_millis().to_string()])
}

/// Returns the KiB of private memory that a gateway needs for an idle connection.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn idle(
    programs: &Programs<'_>,
    gateway: &Gateway,
    processes: &[u32],
    cores: Cores,
    job: &job::Gateway,
) -> Result<f64> {
    let before = usage::memory(processes)?.held;
    let load = command(programs, gateway, "idle", job.idle, job.runs.time).on_core(cores.load);
    let mut running = load.piped().output_to(Stdio::piped(), Stdio::inherit()).spawn()?;
    let stdout = running.child().stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot read from the load generator")?;
    serde_json::from_str::<Told>(&line)
        .with_context(|| format!("cannot parse the load generator's line {line:?}"))?;
    let after = usage::memory(processes)?.held;
    let mut stdin = running.child().stdin.take().context("no input")?;
    stdin.flush()?;
    drop(stdin);
    running.wait()?;
    Ok(after.saturating_sub(before) as f64 / job.idle as f64)
}
