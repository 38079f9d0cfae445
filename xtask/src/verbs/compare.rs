//! `cargo xtask compare`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::target::Target;
use crate::arch::Arch;
use crate::bench;

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Compare this program instead of the image's static server
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Attack the static server with slowhttptest instead, which takes two minutes
    #[arg(long)]
    slow: bool,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        let builder = Target { config: None, arch: Arch::HOST }.open()?;
        if self.slow {
            bench::slow(&builder, self.program)
        } else {
            bench::answers(&builder, self.program)?.spawn()?.wait()
        }
    }
}
