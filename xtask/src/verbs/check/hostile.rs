//! A host with every setting that could reach a step of a build and change its bytes.
//!
//! The second build of `check --reproducible` runs on it. Every setting that is found to change
//! the bytes is added here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::Command;
use crate::source::cargo;

/// Variables that compilers and archivers read.
const VARIABLES: [(&str, &str); 18] = [
    ("SOURCE_DATE_EPOCH", "1"),
    ("CFLAGS", "-O0"),
    ("LDFLAGS", "-Wl,--build-id=sha1"),
    ("CGO_CFLAGS", "-O0"),
    ("CGO_LDFLAGS", "-O0"),
    ("GOAMD64", "v3"),
    ("GOARM64", "v9.0"),
    ("GOFLAGS", "-tags=hostile"),
    ("GOFIPS140", "latest"),
    ("GODEBUG", "gotypesalias=0"),
    ("RUSTFLAGS", "-Cforce-frame-pointers=yes"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("TZ", "Pacific/Kiritimati"),
    ("PYTHONHASHSEED", "1"),
    ("XZ_OPT", "-0"),
];

/// Settings of cargo that change every program.
const PROFILE: &str = "[profile.release]\nopt-level = 0\nlto = \"off\"\nstrip = \"none\"\n";

/// Settings of `go env -w` that change every program.
const GO_ENV: &str = "CGO_CFLAGS=-O0\nGOAMD64=v3\nGOFLAGS=-tags=hostile\n";

/// Files that only their owner may read.
const UMASK: u32 = 0o077;

/// Prepares the folder above a copy of the workspace, and makes a command run on this host.
///
/// The cargo that compiles the copy's builder has a home inside the copy, with the crates of the
/// user's home, so that nothing is downloaded again.
pub(super) fn run(command: Command, copy: &Path) -> Result<Command> {
    let above = copy.parent().context("the copy has no folder above it")?;
    let (home, cargo_home) = (above.join("home"), copy.join("cargo home"));
    write(&above.join(".cargo/config.toml"), PROFILE)?;
    write(&home.join(".config/go/env"), GO_ENV)?;
    let crates = cargo::fetching(copy)?.to_string();
    write(&cargo_home.join("config.toml"), &format!("{crates}\n{PROFILE}"))?;
    if let Some(user) = cargo::user_home() {
        let (registry, link) = (user.join("registry"), cargo_home.join("registry"));
        symlink(&registry, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    let command = command.dir(copy).with_whole_environment().umask(UMASK);
    let command = VARIABLES
        .into_iter()
        .fold(command, |command, (name, value)| command.env(name, value))
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("CARGO_HOME", cargo_home);
    Ok(match rustup_home() {
        Some(rustup) => command.env("RUSTUP_HOME", rustup),
        None => command,
    })
}

/// rustup's folder, which is below HOME unless the user moved it.
fn rustup_home() -> Option<PathBuf> {
    let moved = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = moved.or_else(|| Some(std::env::home_dir()?.join(".rustup")))?;
    home.is_dir().then_some(home)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().context("a file has a folder")?).with_context(context)?;
    fs::write(path, text).with_context(context)
}
