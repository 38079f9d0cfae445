//! A program that proves that it was executed.
//!
//! The escape plants copies of this program under the names of host programs, outside the host's root.
//! If the kernel or a host process executes one, it leaves a file there.

use std::path::Path;
use std::process::ExitCode;

use crate::own;

/// The file that a sprung trap leaves in its root, followed by its name.
pub(crate) const MARK: &str = "/executed-";

/// Returns the name under which this process was started, unless it is the program's own.
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
