//! The smoke command of a package: the test that a program is the right one and starts.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use super::kind::Subject;
use crate::arch::Arch;
use crate::process::{Command, shell};

/// Runs a package's smoke command if its programs were built for this machine.
pub fn run(package: &Subject<'_>, out: &Path) -> Result<()> {
    let Some(smoke) = package.smoke else { return Ok(()) };
    if package.arch != Arch::HOST {
        return Ok(());
    }
    let context = || format!("package `{}`: its smoke command", package.name);
    let (program, args) = smoke.command.split_first().with_context(context)?;
    let (sh, program) = (shell()?, out.join(program));
    let output = Command::from(cmd!(sh, "{program} {args...}")).output().with_context(context)?;
    let printed = [&output.stdout[..], &output.stderr[..]].concat();
    let printed = String::from_utf8_lossy(&printed);
    ensure!(
        printed.contains(&smoke.expect),
        "package `{}`: `{}` should print `{}`, but prints:\n{}",
        package.name,
        smoke.command.join(" "),
        smoke.expect,
        printed.trim()
    );
    Ok(())
}
