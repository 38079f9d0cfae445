//! One run: the client requests one file from one server for a while, and the kernel counts the
//! cost.

use anyhow::{Context, Result, ensure};
use kiln_host::job::StaticServer;
use kiln_host::process::Command;
use serde::Deserialize;

use crate::cores::Cores;
use crate::servers::Server;
use crate::usage;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The name in tables.
    pub name: &'static str,
    /// The file.
    pub path: &'static str,
    /// Its length in bytes.
    pub length: usize,
    /// Connections that are open at the same time.
    connections: usize,
    /// `keep`; `new` for a connection for each request, or `leave` if the client closes it.
    mode: &'static str,
}

/// The cases. Long answers get fewer connections, so that even a short run reaches a steady
/// state.
pub const CASES: [Case; 7] = [
    Case { name: "1 KiB", path: "/1k.bin", length: 1 << 10, connections: 64, mode: "keep" },
    Case { name: "10 KiB", path: "/10k.bin", length: 10 << 10, connections: 64, mode: "keep" },
    Case {
        name: "10 KiB of text",
        path: "/10k.txt",
        length: 10 << 10,
        connections: 64,
        mode: "keep",
    },
    Case { name: "100 KiB", path: "/100k.bin", length: 100 << 10, connections: 32, mode: "keep" },
    Case { name: "1 MiB", path: "/1m.bin", length: 1 << 20, connections: 8, mode: "keep" },
    Case {
        name: "new connection, 1 KiB",
        path: "/1k.bin",
        length: 1 << 10,
        connections: 16,
        mode: "new",
    },
    Case {
        name: "new connection that the client closes, 1 KiB",
        path: "/1k.bin",
        length: 1 << 10,
        connections: 16,
        mode: "leave",
    },
];

impl Case {
    /// The least number of rounds. The cost of long answers depends on luck, so their distribution
    /// is shown.
    pub const fn rounds_min(&self) -> usize {
        if self.length >= 1 << 20 { 20 } else { 1 }
    }
}

/// The result of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Microseconds of processor time of the server for each request.
    pub cost: f64,
    /// Requests in a second.
    pub rate: f64,
    /// Milliseconds within which 99 of 100 requests were answered.
    pub p99: f64,
    /// The part of its processor that the client used, 0 to 1.
    pub client: f64,
}

/// The line that the client prints.
#[derive(Debug, Deserialize)]
struct Told {
    requests: u64,
    errors: u64,
    wall_ns: u64,
    cpu_ns: u64,
    p99_ns: u64,
}

/// Runs a case.
pub fn one(
    job: &StaticServer,
    case: &Case,
    server: &Server,
    processes: &[u32],
    cores: Cores,
) -> Result<Sample> {
    let context = || format!("{} of {}", case.name, server.kind.name());
    let before = usage::processor(processes).with_context(context)?;
    let told = Command::new(job.programs.load()?.join("web-load"))
        .args([server.address.to_string(), case.path.to_owned(), case.length.to_string()])
        .args([
            case.connections.to_string(),
            job.runs.time.as_millis().to_string(),
            case.mode.to_owned(),
        ])
        .on_core(cores.load)
        .read()
        .with_context(context)?;
    let spent = usage::processor(processes).with_context(context)? - before;
    let told: Told = serde_json::from_str(&told).with_context(context)?;
    ensure!(told.requests > 0, "{}: no request was answered", context());
    // A server that limits requests per connection closes some of them; more failures are an error.
    ensure!(told.errors * 1000 <= told.requests, "{}: {} errors", context(), told.errors);
    Ok(sample(&told, spent))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn sample(told: &Told, spent: u64) -> Sample {
    let requests = told.requests as f64;
    Sample {
        cost: spent as f64 / requests / 1e3,
        rate: requests / told.wall_ns as f64 * 1e9,
        p99: told.p99_ns as f64 / 1e6,
        client: told.cpu_ns as f64 / told.wall_ns as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_per_request() {
        let told = Told {
            requests: 1000,
            errors: 0,
            wall_ns: 500_000_000,
            cpu_ns: 250_000_000,
            p99_ns: 2_000_000,
        };
        let expected = Sample { cost: 10.0, rate: 2000.0, p99: 2.0, client: 0.5 };
        assert_eq!(sample(&told, 10_000_000), expected);
    }
}
