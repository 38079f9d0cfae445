//! The checks and scenarios of one run.

use std::path::PathBuf;

use super::checks::Check;
use crate::scenario::Scenario;

/// Everything that a run of `cargo xtask test` does.
pub(super) struct Suite {
    pub checks: &'static [Check],
    pub scenarios: Vec<Scenario>,
    /// The folder of the scenarios' images and golden files.
    pub dir: PathBuf,
}
