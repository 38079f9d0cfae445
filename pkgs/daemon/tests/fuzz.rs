//! Replays the checked-in inputs of the fuzz targets (`pkgs/daemon/fuzz`), without libFuzzer.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod replay;
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// The approximate number of places at which each input is cut and changed.
const PLACES: usize = 200;
