//! Replays the checked-in inputs of the fuzz targets (`pkgs/static-server/fuzz`), without libFuzzer.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "../../daemon/tests/replay/mod.rs"]
mod replay;
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Inputs are cut and flipped at so many places, which is everywhere.
const PLACES: usize = 2048;
