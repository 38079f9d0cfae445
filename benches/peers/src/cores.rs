//! The processors of a measurement: one for the measured program, one for its load.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Two processors, by the kernel's numbers.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The processor of the load generator.
    pub load: usize,
    /// The processor of the measured program.
    pub measured: usize,
}

impl Cores {
    /// Chooses the first two processors that this process may use.
    pub fn choose() -> Result<Self> {
        let set = sched_getaffinity(None).context("cannot read this process's processors")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let pair = cores.next().zip(cores.next());
        let (load, measured) = pair.context(
            "cannot measure on one processor: the measured program needs one for itself",
        )?;
        Ok(Self { load, measured })
    }
}
