use std::fs;
use std::os::unix::fs::symlink;

use super::{Folder, SEED, copy_seed_to, uuid_bytes};

#[test]
fn a_uuid_has_32_digits() {
    let text = "00112233-4455-6677-8899-aabbccddeeff\n";
    let bytes = uuid_bytes(text).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[15]), (0, 0x11, 0xff));
    assert_eq!(uuid_bytes("0011"), None);
    assert_eq!(uuid_bytes(""), None);
}

const SEED_TEXT: &str = "0c5b8e57-1f6a-4d0b-9a53-4e0e5c617d90\n";

/// Returns the copy that is made from a partition which `prepare` has filled, and the partition.
fn copied(prepare: impl FnOnce(&std::path::Path)) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    fs::create_dir_all(path.join("lib/kiln")).unwrap();
    prepare(&path.join(SEED));
    let copy = path.join("copy");
    copy_seed_to(&Folder::open(&path).unwrap(), &copy).unwrap();
    (fs::read_to_string(copy).unwrap(), folder)
}

#[test]
fn a_seed_is_kept() {
    let (copy, folder) = copied(|seed| fs::write(seed, SEED_TEXT).unwrap());
    assert_eq!(copy, SEED_TEXT);
    assert_eq!(fs::read_to_string(folder.path().join(SEED)).unwrap(), SEED_TEXT);
}

#[test]
fn whatever_a_stranger_left_in_the_seeds_place_is_replaced_and_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, SEED_TEXT).unwrap();
    let large = vec![b'a'; 1 << 20];
    let cases: [&dyn Fn(&std::path::Path); 5] = [
        &|_| {},
        &|seed| fs::write(seed, "no uuid").unwrap(),
        &|seed| fs::write(seed, &large).unwrap(),
        &|seed| fs::create_dir(seed).unwrap(),
        &|seed| symlink(&secret, seed).unwrap(),
    ];
    for case in cases {
        let (copy, folder) = copied(case);
        assert!(uuid_bytes(&copy).is_some() && copy != SEED_TEXT, "{copy}");
        let seed = folder.path().join(SEED);
        assert!(fs::symlink_metadata(&seed).unwrap().is_file());
        assert_eq!(fs::read_to_string(seed).unwrap(), copy);
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), SEED_TEXT);
}
