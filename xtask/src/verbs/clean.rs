//! `cargo xtask clean`

use anyhow::Result;
use clap::Args;

use crate::cache::Cache;
use crate::progress::Progress;
use kiln_host::println;

#[derive(Debug, Args)]
pub(super) struct Clean {}

impl Clean {
    pub(super) fn run() -> Result<()> {
        let freed = Cache::open(&Progress::new())?.clean()?;
        println!("{freed}");
        Ok(())
    }
}
