//! Replays the checked-in inputs of the fuzz targets (`fuzz/`), without libFuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect()
}

#[test]
fn every_target_has_a_program_and_inputs() {
    let targets: BTreeSet<String> = targets::TARGETS.map(|(name, _)| name.into()).into();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("seeds")), targets);
}

#[test]
fn every_checked_in_input_holds() {
    for (name, check) in targets::TARGETS {
        let mut replayed = 0;
        for entry in fs::read_dir(folder("seeds").join(name)).unwrap() {
            check(&fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed >= 3, "{name}: {replayed} inputs");
    }
}

#[test]
fn truncated_and_flipped_inputs_hold_too() {
    for (name, check) in targets::TARGETS {
        for entry in fs::read_dir(folder("seeds").join(name)).unwrap() {
            let mut bytes = fs::read(entry.unwrap().path()).unwrap();
            bytes.truncate(2048);
            for cut in 0..bytes.len() {
                check(&bytes[..cut]);
                bytes[cut] ^= 0x55;
                check(&bytes);
                bytes[cut] ^= 0x55;
            }
        }
    }
}
