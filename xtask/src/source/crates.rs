//! Crates of this workspace, as static programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::config::Arch;
use crate::process::Command;
use crate::progress::Progress;
use crate::source::musl;

/// Downloads what Cargo.lock names for one target. Uses the network.
pub fn fetch(workspace: &Path, arch: Arch, progress: &Progress) -> Result<()> {
    let task = progress.task("crates", None);
    let command =
        Command::new("cargo").dir(workspace).args(["fetch", "--locked", "--target", arch.triple()]);
    command
        .watch(|line| task.note(line.trim()))
        .context("cannot download the crates that Cargo.lock names")
}

/// A program of a crate.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The crate.
    pub package: &'a str,
    /// Its binary.
    pub name: &'a str,
    /// The crate's features.
    pub features: &'a [String],
    /// The unpacked package with the C library; the compiler's own when there is none.
    pub libc: Option<&'a Path>,
}

/// Builds one crate's binary, with these features, into `out`. Uses no network.
pub fn build(
    program: Program<'_>,
    workspace: &Path,
    arch: Arch,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let Program { package, name, features, libc } = program;
    let task = progress.task(&format!("{name}: cargo build"), None);
    let target = workspace.join("target/kiln/crates");
    let work = target.join("musl").join(name);
    let link = libc.map(|libc| musl::arguments(libc, arch, &work)).transpose()?;
    // What stands after `--` is for the program alone, so all programs share the other crates.
    let command = Command::new("cargo")
        .dir(workspace)
        .args(["rustc", "--release", "--locked", "--offline", "--package", package, "--bin", name])
        .args(["--target", arch.triple(), "--features", &features.join(","), "--"])
        .args(link.unwrap_or_default())
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace).join("\x1f"));
    command.watch(|line| {
        if line.trim_start().starts_with("Compiling") {
            task.advance(1);
            task.note(line.trim());
        }
    })?;
    let built = target.join(arch.triple()).join("release").join(name);
    std::fs::copy(&built, out.join(name))
        .with_context(|| format!("cannot copy {} into the cache", built.display()))?;
    Ok(())
}

/// Static, and without a trace of where it was built.
fn flags(workspace: &Path) -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Clink-arg=-Wl,--build-id=none".to_owned(),
    ];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.push(format!("--remap-path-prefix={}=/kiln", workspace.display()));
    flags
}
