//! Replays the checked-in inputs of the fuzz targets (`init/fuzz`), without libFuzzer.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "../../pkgs/daemon/tests/replay/mod.rs"]
mod replay;
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Inputs are cut and flipped at every position, because they are short and PID 1 parses them.
const PLACES: usize = 2048;
