//! `cargo xtask plan`

use anyhow::Result;
use clap::Args;

use super::Target;
use kiln_host::{print, println};

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    target: Target,
    /// In Graphviz' language, for `dot -Tsvg`
    #[arg(long)]
    dot: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        if self.dot {
            print!("{}", builder.plan.dot());
            return Ok(());
        }
        for step in builder.plan.steps.values() {
            let state = if builder.cache.find(step.digest)?.is_some() { "cached" } else { "to do" };
            println!("{state}  {}  {}", &step.digest.to_string()[..12], step.name);
            for need in &step.needs {
                println!("                        needs {need}");
            }
        }
        Ok(())
    }
}
