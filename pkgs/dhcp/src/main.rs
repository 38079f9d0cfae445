//! The `dhcp` pod's program: arguments, signals, health, then [`kiln_dhcp::shell::run`].

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use kiln_daemon::health::Health;
use kiln_daemon::signal::Termination;
use kiln_dhcp::shell::{Arguments, run};

fn main() -> ExitCode {
    kiln_daemon::main("dhcp", env!("CARGO_PKG_VERSION"), start)
}

fn start(arguments: Vec<OsString>) -> anyhow::Result<()> {
    let arguments = Arguments::parse(arguments)?;
    let termination = Termination::new().context("cannot block termination signals")?;
    run(arguments, termination, Health::new()?)
}
