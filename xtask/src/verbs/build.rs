//! `cargo xtask build`

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::target::Target;
use crate::progress::Bytes;
use kiln_host::println;

#[derive(Debug, Args)]
pub(super) struct Build {
    #[command(flatten)]
    target: Target,
}

impl Build {
    pub(super) fn run(self) -> Result<()> {
        let start = Instant::now();
        let built = self.target.open()?.image()?;
        let path = built.efi.display();
        println!("{path}: {} in {:.1} s", Bytes(built.report.bytes), start.elapsed().as_secs_f64());
        Ok(())
    }
}
