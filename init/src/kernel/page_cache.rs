//! The helper `kiln-readahead`: reads files into the page cache before a service needs them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

/// Asks the kernel to read all of a file into the page cache.
fn read_ahead(file: &Path) -> Result<()> {
    let file = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed).context("cannot read ahead")
}

/// Reads the files named by `args`.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    i32::from(args.iter().any(|file| read_ahead(Path::new(file)).is_err()))
}
