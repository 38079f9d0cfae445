//! This program as a child of itself, under its own name.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// The program's own name; under any other name it is a trap or an impostor.
pub(crate) const NAME: &str = "probe";

/// A command that runs this program with these arguments and without input.
pub(crate) fn command(words: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the rule is the builder's")]
    let mut child = Command::new("/proc/self/exe");
    child.arg0(NAME).args(words).stdin(Stdio::null());
    child
}
