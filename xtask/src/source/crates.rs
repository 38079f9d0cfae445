//! Crates of this workspace, as static programs.

use std::path::Path;

use anyhow::{Context, Result};
use kiln_host::environment::{CARGO, NETWORK};
use xshell::cmd;

use crate::config::Arch;
use crate::process::shell;
use crate::progress::Progress;
use crate::source::cargo::{Cargo, linker};
use crate::source::musl;

/// Downloads the crates that Cargo.lock names for one architecture. Uses the network.
pub fn fetch(cargo: &Cargo<'_>, arch: Arch, progress: &Progress) -> Result<()> {
    let task = progress.task("crates", None);
    let (sh, settings, manifest, triple) =
        (shell()?, cargo.file(), cargo.manifest(), arch.triple());
    let command = cargo.run(cmd!(
        sh,
        "cargo fetch --config {settings} --manifest-path {manifest} --locked --target {triple}"
    ));
    command
        .with(NETWORK)
        .with(CARGO)
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
    /// The unpacked package with the C library, or the compiler's own library.
    pub libc: Option<&'a Path>,
}

/// Builds one crate's binary, with these features, into `out`. Uses no network.
pub fn build(
    program: Program<'_>,
    cargo: &Cargo<'_>,
    arch: Arch,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let Program { package, name, features, libc } = program;
    let task = progress.task(&format!("{name}: cargo build"), None);
    let (target, triple, features) = (cargo.target(), arch.triple(), features.join(","));
    let work = target.join("musl").join(name);
    let link = libc.map(|libc| musl::arguments(libc, arch, &work)).transpose()?.unwrap_or_default();
    let (sh, settings, manifest) = (shell()?, cargo.file(), cargo.manifest());
    // Arguments after `--` are for the program alone, so all programs share the other crates.
    let command = cargo.run(cmd!(
        sh,
        "cargo rustc --config {settings} --manifest-path {manifest} --release --locked --offline
         --package {package} --bin {name} --target {triple} --features {features} -- {link...}"
    ));
    let command = command
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(cargo)?.join("\x1f"));
    let command =
        linker(arch).into_iter().fold(command, |command, (name, linker)| command.env(name, linker));
    command.watch(|line| {
        if line.trim_start().starts_with("Compiling") {
            task.advance(1);
            task.note(line.trim());
        }
    })?;
    let built = target.join(triple).join("release").join(name);
    std::fs::copy(&built, out.join(name))
        .with_context(|| format!("cannot copy {} into the cache", built.display()))?;
    Ok(())
}

/// Static, and without a trace of the place where it was built.
fn flags(cargo: &Cargo<'_>) -> Result<Vec<String>> {
    let fixed = ["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,--build-id=none"];
    Ok(fixed.map(str::to_owned).into_iter().chain(cargo.remap()?).collect())
}
