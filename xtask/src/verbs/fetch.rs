//! `cargo xtask fetch`

use anyhow::Result;
use clap::Args;

use super::target::Target;
use kiln_host::println;

#[derive(Debug, Args)]
pub(super) struct Fetch {
    #[command(flatten)]
    target: Target,
}

impl Fetch {
    pub(super) fn run(self) -> Result<()> {
        self.target.open()?.fetch()?;
        println!(
            "everything is there; `cargo xtask build` and `cargo xtask run` need no network now"
        );
        Ok(())
    }
}
