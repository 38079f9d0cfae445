//! `cargo xtask bench`

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Target;
use crate::bench::{self, Options};

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Boot the image and a bare C init with the same programs in turn, and compare their times
    Boot(Boot),
}

#[derive(Debug, Args)]
struct Boot {
    #[command(flatten)]
    target: Target,
    /// Boots of each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Also read the memory in use, a minute after the pod's first answer
    #[arg(long)]
    memory: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        let What::Boot(Boot { target, rounds, memory }) = self.what;
        bench::boot(&target.open()?, Options { rounds: rounds.into(), memory })
    }
}
