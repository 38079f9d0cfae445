//! Replays the checked-in inputs of the fuzz targets (`pkgs/pages/fuzz`), without libFuzzer.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "../../daemon/tests/replay/mod.rs"]
mod replay;
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// The number of places at which inputs are cut and flipped.
const PLACES: usize = 512;
