//! One step and the cache → a folder of staged files. One file per kind of source.

pub mod crates;
pub mod go;
pub mod kernel;
pub mod modinfo;
pub mod musl;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::config::{Arch, Package};
use crate::process::Command;

/// Runs a package's smoke command on what was built for this machine.
pub fn smoke(package: &Package, arch: Arch, out: &Path) -> Result<()> {
    let Some(smoke) = &package.smoke else { return Ok(()) };
    if arch != Arch::HOST {
        return Ok(());
    }
    let context = || format!("package `{}`: its smoke command", package.name);
    let (program, args) = smoke.command.split_first().with_context(context)?;
    let output = Command::new(out.join(program)).args(args).output().with_context(context)?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.contains(&smoke.expect),
        "package `{}`: `{}` should say `{}`, but says:\n{}",
        package.name,
        smoke.command.join(" "),
        smoke.expect,
        said.trim()
    );
    Ok(())
}
