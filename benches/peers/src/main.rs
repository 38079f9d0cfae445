//! Kiln and its pods next to their peers: the program behind `cargo xtask bench` and `compare`.
//!
//! It reads a [`Job`] from the file that is its only argument. The builder has made all programs and
//! images that the job names. Modules depend in one direction: a measurement (`boot`, `gateway`,
//! `pages`, `static_server`, `answers`, `slow`) uses `servers`, and all use `usage`, `cores` and `median`.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when the reader has gone; see `kiln_host::output`"
)]

mod answers;
mod boot;
mod cores;
mod gateway;
mod median;
mod pages;
mod servers;
mod slow;
mod static_server;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use kiln_host::eprintln;
use kiln_host::job::Job;
use kiln_host::{output, process};

/// Exit status after ctrl-C, as in shells: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match process::watch_interrupt().and_then(|()| run()) {
        _ if output::is_closed() => ExitCode::from(output::CLOSED),
        Ok(()) => ExitCode::SUCCESS,
        // The builder, which started this program, got the same signal and reports it.
        Err(_) if process::interrupted() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        bail!("usage: peers-bench JOB.json; `cargo xtask bench` and `compare` write the file");
    };
    match Job::read(&file)? {
        Job::Boot(job) => boot::images(&job),
        Job::StaticServer(job) => static_server::servers(&job),
        Job::Gateway(job) => gateway::gateways(&job),
        Job::Pages(job) => pages::measure(&job),
        Job::Answers(job) => answers::check(&job),
        Job::Slow(programs) => slow::check(&programs),
    }
}
