//! `cargo xtask test`

mod browser;
mod checks;
mod lanes;
mod list;
mod registry;
mod report;
mod suite;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::target::Target;
use crate::arch::Arch;
use crate::build::machine;
use crate::scenario::{self, Selection, Shard, select};
use report::Report;
use suite::Suite;

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Run only these VM scenarios, without the checks on the host
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Run every VM scenario, not only those of the tier `core`
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    /// With --all: run part I of N, for N machines that share the work
    #[arg(long, value_name = "I/N", requires = "all")]
    shard: Option<Shard>,
    /// Run only the checks on the host
    #[arg(long, conflicts_with_all = ["scenarios", "all", "config"])]
    no_vm: bool,
    /// List what would run, with tier, image and the duration of the last run
    #[arg(long)]
    list: bool,
    /// Run only the VM scenarios in the folder `tests/vm` next to this build file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Test {
    pub(super) fn run(self) -> Result<()> {
        let target = Target { config: self.config.clone(), arch: Arch::HOST };
        let file = target.file()?;
        // Read before anything is built: a misspelt name should not cost minutes.
        let suite = self.suite(file.parent().unwrap_or(Path::new("/")))?;
        if self.list {
            return list::print(&suite);
        }
        let builder = target.open()?;
        let report = Report::new(builder.progress.clone());
        if suite.scenarios.is_empty() {
            lanes::run_checks(suite.checks, &builder, &report)?;
        } else {
            let rig = machine::rig(&builder, &suite.dir)?;
            lanes::run(&suite, &builder, &rig, &report)?;
        }
        report.finish()
    }

    fn suite(&self, layer: &Path) -> Result<Suite> {
        let dir = layer.join("tests/vm");
        let scenarios = if self.no_vm {
            Vec::new()
        } else {
            let all = scenario::load(&dir.join("scenarios"))?;
            select(all, &self.selection())
                .with_context(|| format!("cannot choose from {}", dir.display()))?
        };
        let with_checks = self.scenarios.is_empty()
            && self.config.is_none()
            && self.shard.is_none_or(Shard::is_first);
        let checks = if with_checks { checks::checks(self.all) } else { &[] };
        Ok(Suite { checks, scenarios, dir })
    }

    fn selection(&self) -> Selection {
        if !self.scenarios.is_empty() {
            Selection::Named(self.scenarios.clone())
        } else if self.all || self.config.is_some() {
            Selection::All(self.shard)
        } else {
            Selection::Core
        }
    }
}
