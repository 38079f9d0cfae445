use std::fs::File;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::limits::{Limits, Refusal};
use super::read;
use super::tree::Tree;
use crate::publish::pack::build;
use crate::publish::tree::{Blob, Objects as _};
use crate::publish::walk::{Bounds, walk};

const SMALL: Limits = Limits {
    bytes: 4 << 20,
    ratio: 100,
    entries: 200,
    file_bytes: 1 << 20,
    depth: 4,
    path_bytes: 200,
};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn unpack(bytes: &[u8]) -> Result<Tree, Refusal> {
    let folder = tempfile::tempdir().unwrap();
    let result = read(&mut file(bytes), folder.path(), &SMALL, &|| false);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left in scratch");
    result
}

/// Returns paths and contents.
fn content(tree: &Tree) -> Vec<(String, String)> {
    let files = walk(tree, tree.root(), "", &Bounds::default()).unwrap().files;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let file = |(path, id)| match tree.file(&id).unwrap() {
        Blob::Bytes(bytes) => (text(path), text(bytes)),
        Blob::TooLarge => panic!("too large"),
    };
    files.into_iter().map(file).collect()
}

/// Expects a refusal with this text.
fn refused(bytes: &[u8], expected: &str) {
    match unpack(bytes) {
        Ok(tree) => panic!("{expected}: {:?}", content(&tree)),
        Err(refusal) => {
            let text = refusal.to_string();
            assert!(text.contains(expected), "{text:?} is not {expected:?}");
        }
    }
}

/// Returns a tar archive; names are written as they are.
fn tarball(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn files(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let entries: Vec<_> =
        entries.iter().map(|(name, bytes)| (*name, EntryType::Regular, *bytes)).collect();
    tarball(&entries)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a zip archive of deflated files, with these Unix modes.
fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = rawzip::ZipArchiveWriter::new(Vec::new());
    for (name, mode, bytes) in entries {
        let file = archive.new_file(name).unix_permissions(*mode);
        let file = file.compression_method(rawzip::CompressionMethod::DEFLATE);
        let (mut entry, config) = file.start().unwrap();
        let encoder = DeflateEncoder::new(&mut entry, Compression::default());
        let mut writer = config.wrap(encoder);
        writer.write_all(bytes).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap()
}

const SITE: [(&[u8], &[u8]); 3] =
    [(b"./index.html", b"home"), (b"docs/a.html", b"a"), (b".git/config", b"secret")];

fn site() -> Vec<(String, String)> {
    [("/docs/a.html", "a"), ("/index.html", "home")]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .to_vec()
}

fn zipped() -> Vec<u8> {
    zip(&[
        ("docs/", 0o040_755, b""),
        ("docs/a.html", 0o100_644, b"a"),
        ("index.html", 0o100_644, b"home"),
    ])
}

#[test]
fn each_format_gives_the_same_tree() {
    let plain = files(&SITE);
    let packed = zstd::encode_all(&plain[..], 19).unwrap();
    for bytes in [&plain, &gzip(&plain), &packed, &zipped()] {
        assert_eq!(content(&unpack(bytes).unwrap()), site());
    }
}

#[test]
fn long_names_of_gnu_and_posix_are_read() {
    let long = format!("{}/index.html", "d".repeat(150));
    let mut gnu = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    gnu.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let mut posix = Builder::new(Vec::new());
    posix.append_pax_extensions([("path", long.as_bytes()), ("mtime", b"1.5")]).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(1);
    header.set_cksum();
    posix.append(&header, &b"x"[..]).unwrap();
    for bytes in [gnu.into_inner().unwrap(), posix.into_inner().unwrap()] {
        assert_eq!(content(&unpack(&bytes).unwrap()), [(format!("/{long}"), "x".to_owned())]);
    }
}

#[test]
fn a_path_must_be_clear_and_inside() {
    for (name, expected) in [
        (&b"/etc/passwd"[..], "is absolute"),
        (b"../a", "leaves its folder"),
        (b"a/../../b", "leaves its folder"),
        (b"a\\..\\b", "has a backslash"),
        (b"a/\xff", "is not UTF-8"),
        (b"a\nb", "has a control character"),
        (b"1/2/3/4/5/6", "is too deep"),
        (b"./", "is no name of a file"),
    ] {
        if name != b"./" {
            refused(&files(&[(name, b"x")]), expected);
            refused(&tarball(&[(name, EntryType::Directory, b"")]), expected);
        }
        let mut tree = Tree::new(&SMALL, &std::env::temp_dir()).unwrap();
        let refusal = tree.add_file(name, &b"x"[..]).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
    for (name, expected) in
        [(b"../a", "leaves its folder"), (b"/abc", "is absolute"), (b"a\\bc", "backslash")]
    {
        // The library writes no such name.
        let mut bytes = zip(&[("NAME", 0o100_644, b"x")]);
        let is_name = |place: &usize| bytes[*place..].starts_with(b"NAME");
        let places: Vec<usize> = (0..bytes.len()).filter(is_name).collect();
        for place in places {
            bytes[place..place + 4].copy_from_slice(name);
        }
        refused(&bytes, expected);
    }
}

#[test]
fn only_files_and_folders_are_taken() {
    for (kind, expected) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::new(b'Z'), "of an unknown kind"),
    ] {
        refused(&tarball(&[(b"a", EntryType::Regular, b"x"), (b"b", kind, b"")]), expected);
    }
    refused(&zip(&[("a", 0o120_777, b"/etc/passwd")]), "a symbolic link");
    refused(&zip(&[("a", 0o020_644, b"")]), "a device or a pipe");
    let mut sparse = Builder::new(Vec::new());
    sparse.append_pax_extensions([("GNU.sparse.realsize", &b"1099511627776"[..])]).unwrap();
    sparse.append(&Header::new_ustar().clone(), &b""[..]).unwrap_or(());
    let mut bytes = sparse.into_inner().unwrap();
    bytes.truncate(1024);
    bytes.extend(files(&[(b"a", b"x")]));
    refused(&bytes, "a sparse file");
}

#[test]
fn names_that_people_cannot_tell_apart_are_refused() {
    refused(&files(&[(b"a", b"1"), (b"a", b"2")]), "\"a\" twice");
    refused(&files(&[(b"a", b"1"), (b"./a", b"2")]), "twice");
    refused(&files(&[(b"a", b"1"), (b"a/b", b"2")]), "twice");
    refused(&files(&[(b"a/b", b"1"), (b"a", b"2")]), "twice");
    refused(&files(&[(b"Index.html", b"1"), (b"index.html", b"2")]), "differ only in the form");
    refused(&files(&[(b"A/x", b"1"), (b"a/y", b"2")]), "differ only in the form");
    let (one, two) = ("caf\u{e9}", "cafe\u{301}");
    refused(&files(&[(one.as_bytes(), b"1"), (two.as_bytes(), b"2")]), "differ only");
    refused(&zip(&[("a", 0o100_644, b"1"), ("a", 0o100_644, b"2")]), "twice");
    let folders = tarball(&[
        (b"d/", EntryType::Directory, b""),
        (b"d", EntryType::Directory, b""),
        (b"d/a", EntryType::Regular, b"x"),
    ]);
    assert_eq!(content(&unpack(&folders).unwrap()).len(), 1);
}

#[test]
fn an_archive_that_is_cut_short_is_refused_at_each_length() {
    let plain = files(&SITE);
    // Two blocks of zeros are the end, and one is enough.
    for end in (512..=plain.len() - 1024).step_by(100) {
        refused(&plain[..end], "ends too early");
    }
    refused(&plain[..plain.len() - 1024], "ends too early");
    for packed in [gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap(), zipped()] {
        for end in 4..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "{end} of {}", packed.len());
        }
    }
}

#[test]
fn a_changed_byte_is_found_by_the_checksums() {
    for packed in [gzip(&files(&SITE)), zipped()] {
        for place in 0..packed.len() {
            let mut bytes = packed.clone();
            bytes[place] ^= 0x10;
            // A zip archive has no checksum of names and times, but one of each content.
            if let Ok(tree) = unpack(&bytes) {
                assert!(content(&tree).iter().all(|(_, text)| ["a", "home"].contains(&&**text)));
            }
        }
    }
    let mut wrong = gzip(&files(&SITE));
    let place = wrong.len() - 8;
    wrong[place] ^= 1;
    refused(&wrong, "damaged");
    let mut stored = zipped();
    let name = stored.windows(10).position(|part| part == b"index.html").unwrap();
    stored[name + 12] ^= 0x40;
    refused(&stored, "damaged");
}

#[test]
fn other_bytes_are_no_archive() {
    for bytes in [&b""[..], b"<html>", &[b'x'; 5000], b"GIF89a\0\0"] {
        assert!(unpack(bytes).is_err(), "{bytes:?}");
    }
    refused(&[b'x'; 5000], "no tar, tar.gz, tar.zst or zip");
    refused(&gzip(&gzip(&files(&SITE))), "no tar, tar.gz");
}

#[test]
fn bombs_end_at_their_limit() {
    // One large file of zeros.
    let zeros = vec![0; 8 << 20];
    refused(&gzip(&files(&[(b"a", &zeros[..2 << 20])])), "more than 100 times its size");
    refused(
        &zip(&[("a", 0o100_644, &zeros[..1 << 20]), ("b", 0o100_644, &zeros[..1 << 20])]),
        "100 times",
    );
    refused(&files(&[(b"a", &zeros[..=1 << 20])]), "more than 1 MiB");
    let parts: Vec<Vec<u8>> = (0..6).map(|number| vec![number; 1 << 20]).collect();
    let names = [&b"a"[..], b"b", b"c", b"d", b"e", b"f"];
    let many: Vec<(&[u8], &[u8])> =
        names.into_iter().zip(parts.iter().map(Vec::as_slice)).collect();
    refused(&files(&many), "more than 4 MiB of content");
    // A header that claims an exabyte.
    let mut huge = files(&[(b"a", b"x")]);
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    let sum: u32 =
        huge[..148].iter().chain(&huge[156..512]).map(|byte| u32::from(*byte)).sum::<u32>() + 256;
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(unpack(&huge).is_err());
    // A long name of two megabytes, and a name in a window of zstd that needs 128 MiB.
    let name = vec![b'n'; 2 << 20];
    let record =
        tarball(&[(b"x", EntryType::GNULongName, &name), (b"a", EntryType::Regular, b"x")]);
    refused(&record, "a record with a long name is too large");
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&files(&SITE)).unwrap();
    refused(&encoder.finish().unwrap(), "damaged");
}

#[test]
fn many_entries_end_at_their_limit() {
    let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let entries: Vec<(&[u8], &[u8])> =
        names.iter().map(|name| (name.as_bytes(), &b""[..])).collect();
    refused(&files(&entries), "more than 200 entries");
    let entries: Vec<(&str, u32, &[u8])> =
        names.iter().map(|name| (name.as_str(), 0o100_644, &b""[..])).collect();
    refused(&zip(&entries), "more than 200 entries");
    // Folders that only paths name count, too.
    let names: Vec<String> = (0..150).map(|number| format!("{number}/{number}/a")).collect();
    let entries: Vec<(&[u8], &[u8])> =
        names.iter().map(|name| (name.as_bytes(), &b""[..])).collect();
    refused(&files(&entries), "more than 200 entries");
    let again: Vec<(&str, u32, &[u8])> = (0..300).map(|_| ("d/", 0o040_755, &b""[..])).collect();
    refused(&zip(&again), "more than 200 entries");
}

#[test]
fn files_of_a_zip_that_share_bytes_are_refused() {
    let mut bytes = zip(&[("a", 0o100_644, b"same"), ("b", 0o100_644, b"same")]);
    // The second entry of the directory gets the local header of the first.
    let second = bytes.windows(4).rposition(|part| part == b"PK\x01\x02").unwrap();
    bytes[second + 42..second + 46].copy_from_slice(&[0; 4]);
    refused(&bytes, "share bytes");
}

#[test]
fn encrypted_and_unusual_files_of_a_zip_are_refused() {
    let directory = |bytes: &[u8]| bytes.windows(4).position(|part| part == b"PK\x01\x02").unwrap();
    let mut bytes = zip(&[("a", 0o100_644, b"x")]);
    let at = directory(&bytes);
    bytes[at + 8] |= 1;
    refused(&bytes, "is encrypted");
    let mut bytes = zip(&[("a", 0o100_644, b"x")]);
    bytes[at + 10] = 12;
    refused(&bytes, "neither stored nor deflated");
}

#[test]
fn reading_ends_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let late = read(&mut file(&files(&SITE)), folder.path(), &SMALL, &|| true);
    assert!(matches!(late, Err(Refusal::TooSlow)));
}

#[test]
fn the_same_files_make_the_same_pack_whatever_the_archive() {
    let digest = |bytes: &[u8]| {
        let tree = unpack(bytes).unwrap();
        let files = walk(&tree, tree.root(), "", &Bounds::default()).unwrap();
        let scratch = std::env::temp_dir();
        let out = tempfile::tempfile().unwrap();
        let built = build(&tree, files, 1 << 20, None, &scratch, &out);
        built.map(|built| built.digest).map_err(|error| error.to_string()).unwrap()
    };
    assert_eq!(digest(&files(&SITE)), digest(&zipped()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), start in 0_usize..5) {
        let starts: [&[u8]; 5] = [b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\x05\x06"];
        drop(unpack(&[starts[start], &bytes].concat()));
    }

    #[test]
    fn no_changed_archive_panics_or_leaves_the_limits(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        which in 0_usize..3,
    ) {
        let mut bytes = match which {
            0 => files(&SITE),
            1 => zipped(),
            _ => zstd::encode_all(&files(&SITE)[..], 3).unwrap(),
        };
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(tree) = unpack(&bytes) {
            for (path, text) in walk(&tree, tree.root(), "", &Bounds::default()).unwrap().files.iter()
                .map(|(path, id)| (path.clone(), tree.file(id)))
            {
                prop_assert!(path.starts_with(b"/") && !path.windows(3).any(|part| part == b"/.."));
                prop_assert!(text.is_ok());
            }
        }
    }
}
