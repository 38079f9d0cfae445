//! `cargo xtask plan`

use anyhow::Result;
use clap::Args;
use kiln_host::{print, println};

use super::target::Target;
use crate::build::Builder;
use crate::config::{OVMF, QEMU};
use crate::plan;

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    target: Target,
    /// Print the plan in Graphviz' format, for `dot -Tsvg`
    #[arg(long)]
    dot: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let plan = self.shown(&builder)?;
        if self.dot {
            print!("{}", plan.dot());
            return Ok(());
        }
        for step in plan.steps.values() {
            let state = if builder.cache.find(step.digest)?.is_some() { "cached" } else { "to do" };
            println!("{state}  {}  {}", &step.digest.to_string()[..12], step.name);
            for need in &step.needs {
                println!("                        needs {need}");
            }
        }
        Ok(())
    }

    /// Returns the whole plan for the repository's own image, which `test` and `bench` use, and the
    /// steps of `build` and `run` for another build file.
    fn shown(&self, builder: &Builder) -> Result<plan::Plan> {
        if self.target.file()? == builder.inputs.workspace.join("build.toml") {
            return Ok(builder.plan.clone());
        }
        let tools = [QEMU, OVMF].map(plan::staged);
        builder.plan.part(&[&[plan::UKI][..], &tools.each_ref().map(String::as_str)].concat())
    }
}
