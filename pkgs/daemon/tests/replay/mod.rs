//! Replays the checked-in inputs of a crate's fuzz targets, without libFuzzer.
//!
//! Several crates include this file: each names its targets, and the number of places at which inputs
//! are cut and changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::PLACES;
use super::targets::TARGETS;

fn folder(name: &str) -> PathBuf {
    // Read at run time, because a copied checkout keeps what was compiled in the original.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("fuzz").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect()
}

/// Returns the inputs of a target.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder("seeds").join(name)).unwrap();
    entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_target_has_a_program_and_inputs() {
    let targets: BTreeSet<String> = TARGETS.map(|(name, _)| name.into()).into();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("seeds")), targets);
}

#[test]
fn every_checked_in_input_passes() {
    for (name, check) in TARGETS {
        let inputs = inputs(name);
        for input in &inputs {
            check(input);
        }
        assert!(inputs.len() >= 3, "{name}: {} inputs", inputs.len());
    }
}

#[test]
fn truncated_and_changed_inputs_pass_too() {
    for (name, check) in TARGETS {
        for mut bytes in inputs(name) {
            bytes.truncate(2048);
            let step = bytes.len().div_ceil(PLACES).max(1);
            for at in (0..bytes.len()).step_by(step) {
                check(&bytes[..at]);
                bytes[at] ^= 0x55;
                check(&bytes);
                bytes[at] ^= 0x55;
            }
        }
    }
}
