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
            "all files are in the cache; `cargo xtask build` and `cargo xtask run` need no network now"
        );
        Ok(())
    }
}
