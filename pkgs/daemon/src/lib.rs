//! The code that Kiln's pods share: logging, termination signals, health and exit codes.
//!
//! A pod of Kiln is one static program that runs as PID 1 of its container. It must log readable lines
//! to stderr, stop on a signal, report its health and exit with a useful code. Some pods resolve
//! names, which a static program cannot leave to the C library.
//! The crate is small and synchronous, and starts no threads but the one that answers health probes.
//!
//! ```no_run
//! # fn serve(_: kiln_daemon::signal::Termination, _: kiln_daemon::health::Health) -> anyhow::Result<()> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     kiln_daemon::main("dhcp", env!("CARGO_PKG_VERSION"), |_args| {
//!         serve(kiln_daemon::signal::Termination::new()?, kiln_daemon::health::Health::new()?)
//!     })
//! }
//! ```

pub mod exit;
pub mod health;
pub mod log;
pub mod signal;

use std::ffi::OsString;
use std::process::ExitCode;

pub use kiln_base::dns;

use crate::exit::Exit;

/// Runs a pod's program: handles `--version`, starts logging, and turns an error into one line and an
/// exit code ([`Exit`]).
///
/// `run` gets the arguments without the program's name.
pub fn main(
    name: &str,
    version: &str,
    run: impl FnOnce(Vec<OsString>) -> anyhow::Result<()>,
) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if matches!(args.as_slice(), [only] if only == "--version" || only == "-V") {
        println!("{name} {version}");
        return ExitCode::SUCCESS;
    }
    log::init();
    match run(args) {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            tracing::error!("{name}: {error:#}");
            Exit::of(&error).into()
        }
    }
}
