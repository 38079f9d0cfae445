//! The builder: turns `build.toml` into one EFI file, boots it, tests it.
//!
//! The stages follow the data: `config` reads text, `plan` makes steps, `build` runs them with the
//! kinds of `source`, `assemble` makes trees, `image` writes them. Each kind of source is one file
//! that several stages call, so `source` lies below all of them. `docs/architecture.md` has the
//! rooms.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic when the reader has gone; see `kiln_host::output`"
)]

mod arch;
mod assemble;
mod bench;
mod build;
mod cache;
mod cluster;
mod config;
mod credential;
mod debian;
mod digest;
mod fetch;
mod image;
mod inputs;
mod judge;
mod kernel;
mod lock;
mod plan;
mod registry;
mod revision;
mod scenario;
mod source;
mod text;
#[cfg(test)]
mod tidy;
mod tree;
mod unpack;
mod verbs;
mod walk;

use std::process::ExitCode;

use clap::Parser;
use kiln_host::eprintln;
use kiln_host::process::Stopped;
use kiln_host::{output, port, process, progress, qemu, tool as host};

/// Exit status after ctrl-C, as in shells: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let verb = verbs::Cli::parse();
    let result = process::watch_interrupt().and_then(|()| verb.run());
    match result {
        _ if output::is_closed() => ExitCode::from(output::CLOSED),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if process::interrupted() => {
            // All other errors follow from the interruption.
            if error.downcast_ref::<Stopped>().is_some() {
                eprintln!("{error:#}");
            } else {
                eprintln!(
                    "interrupted; finished steps are kept, and the same command continues from there"
                );
            }
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
