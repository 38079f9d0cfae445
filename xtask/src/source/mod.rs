//! One step and the cache → a folder of staged files. One file per kind of source.

pub mod cargo;
pub mod crates;
pub mod go;
pub mod kernel;
pub mod modinfo;
pub mod musl;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use crate::config::{Arch, Package};
use crate::process::{Command, shell};

/// Runs a package's smoke command on what was built for this machine.
pub fn smoke(package: &Package, arch: Arch, out: &Path) -> Result<()> {
    let Some(smoke) = &package.smoke else { return Ok(()) };
    if arch != Arch::HOST {
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
