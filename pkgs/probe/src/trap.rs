//! A program that tells that it was executed.
//!
//! The escape plants copies of this very binary under the names of host programs, outside of the
//! host's root. If the kernel or a host process ever runs one, it leaves a file beside it.

use std::path::Path;
use std::process::ExitCode;

use crate::own;

/// The file that a sprung trap leaves, followed by its name, in the root that it ran in.
pub(crate) const MARK: &str = "/executed-";

/// The name this process was started under, if that is not its own.
pub(crate) fn sprung() -> Option<String> {
    let program = std::env::args_os().next()?;
    let name = Path::new(&program).file_name()?.to_str()?.to_owned();
    (name != own::NAME && name != "exe" && !name.starts_with("probe-")).then_some(name)
}

/// Leaves the mark.
pub(crate) fn record(name: &str) -> ExitCode {
    match std::fs::write(format!("{MARK}{name}"), name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
