//! What servers are started from: others as locked packages, ours, and the programs of a crate in
//! `benches/` that load them or show what no server can be faster than.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build::Builder;
use crate::cache::Entry;
use crate::plan::staged;
use crate::process::Command;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Packages of others.
    pub peers: &'a [&'a str],
    /// Our package, and its program.
    pub ours: &'a str,
    /// The crate in `benches/`.
    pub bench: &'a str,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// Entries of the cache by step: the peers', and ours unless a program replaces it.
    pub entries: BTreeMap<String, Entry>,
    /// Our program.
    pub ours: PathBuf,
    /// Folder with the programs of the crate.
    pub bench: PathBuf,
}

impl Wanted<'_> {
    /// Makes what is missing. `program` replaces ours of the image.
    pub fn make(self, builder: &Builder, program: Option<PathBuf>) -> Result<Made> {
        let Self { peers, ours, bench } = self;
        let own = staged(ours);
        let mut goals: Vec<String> = peers.iter().map(|peer| staged(peer)).collect();
        if program.is_none() {
            goals.push(own.clone());
        }
        let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
        let entries = builder.make(&goals)?;
        let ours = if let Some(program) = program {
            std::path::absolute(program)?
        } else {
            let entry = entries.get(&own).with_context(|| format!("{ours} was not made"))?;
            entry.path().join(ours)
        };
        let workspace = &builder.inputs.workspace;
        let target = workspace.join("target/kiln/bench");
        let _task = builder.progress.task(&format!("{bench}: cargo build"), None);
        Command::new("cargo")
            .dir(workspace)
            .args(["build", "--quiet", "--release", "--locked", "--package", bench])
            .env("CARGO_TARGET_DIR", &target)
            .output()?;
        Ok(Made { entries, ours, bench: target.join("release") })
    }
}
