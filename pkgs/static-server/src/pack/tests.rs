use std::io::{Seek as _, SeekFrom, Write as _};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::layout::{Blob, CHECKED, HEADER};
use super::open::{contents, load, verify};
use super::read::{Flaw, checksum, parse};
use super::write::{order, plan};
use crate::index::assemble::{Encoded, Item, assemble};
use crate::index::policy::Policy;
use crate::index::{Body, Coding, Index, Kind};
use crate::rules::Rules;

/// Makes a pack of these files, with a coded variant for each that is longer than 4 bytes.
fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for (_, bytes) in files {
        bodies.push(bytes.to_vec());
        if bytes.len() > 4 {
            bodies.push(bytes[..4].to_vec());
        }
    }
    let blob = |bytes: &Vec<u8>| {
        let sha256 = Sha256::digest(bytes).into();
        Blob { start: 0, len: bytes.len() as u64, sha256 }
    };
    bodies.sort_by_key(|bytes| order(&blob(bytes)));
    bodies.dedup();
    let blobs: Vec<Blob> = bodies.iter().map(blob).collect();
    let encoded = |coding: Coding, bytes: &[u8]| {
        let number = bodies.iter().position(|body| body == bytes).unwrap();
        let mut tag = [0; 16];
        tag.copy_from_slice(&blobs[number].sha256[..16]);
        let body = Body { store: 0, start: number as u64, len: bytes.len() as u64 };
        Encoded { coding, body, tag }
    };
    let item = |(path, bytes): &(&str, &[u8])| {
        let mut variants = vec![encoded(Coding::Identity, bytes)];
        if bytes.len() > 4 {
            variants.push(encoded(Coding::Brotli, &bytes[..4]));
        }
        Item { path: path.as_bytes().to_vec(), variants, modified: None }
    };
    let items: Vec<Item> = files.iter().map(item).collect();
    let policy = Policy { single_page: true, ..Policy::default() };
    let index = assemble(&items, Vec::new(), Rules::default(), &policy).unwrap();
    let plan = plan(&index, &blobs).unwrap();
    let mut out = plan.head;
    for (blob, body) in plan.blobs.iter().zip(&bodies) {
        out.resize(usize::try_from(blob.start).unwrap(), 0);
        out.extend_from_slice(body);
    }
    assert_eq!(out.len() as u64, plan.len);
    out
}

static LONG: [u8; 50_000] = [7; 50_000];

fn site() -> Vec<u8> {
    pack(&[
        ("/index.html", b"a page"),
        ("/sub/index.html", b"a page"),
        ("/sub/404.html", b"lost"),
        ("/empty", b""),
        ("/long", &LONG),
    ])
}

fn read(bytes: &[u8]) -> Result<Index, Flaw> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Err(Flaw::Foreign) };
    let header = super::read::header(head, bytes.len() as u64)?;
    let end = usize::try_from(header.small).unwrap();
    parse(head, &bytes[HEADER..end], bytes.len() as u64).map(|contents| contents.index)
}

fn stored(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Accesses everything that a server accesses.
fn walk(index: &Index) {
    for entry in &index.entries {
        assert!(index.find(index.bytes(entry.path)).is_some());
        let Kind::Resource(number) = entry.kind else { continue };
        for variant in index.variants(&index.resources[number as usize]) {
            let prepared = index.prepared(variant);
            let head = index.bytes(prepared.head);
            assert!(head[..prepared.rest as usize].ends_with(b"\r\n"));
            assert!(prepared.shared as usize <= head.len());
        }
    }
    assert!(index.error_page(b"/x").is_none_or(|number| (number as usize) < index.resources.len()));
}

#[test]
fn a_packed_site_is_served_from_the_file_and_small_bodies_stay_in_memory() {
    let file = stored(&site());
    for limit in [0, 1 << 20] {
        let index = load(file.path(), limit).unwrap();
        assert_eq!(index.content_bytes(), 0, "a start reads no body");
        walk(&index);
        for (path, text) in
            [("/", &b"a page"[..]), ("/sub/", b"a page"), ("/empty", b""), ("/long", &LONG)]
        {
            let Some(Kind::Resource(number)) = index.find(path.as_bytes()) else {
                panic!("{path}")
            };
            let first = index.resources[number as usize].first;
            let body = index.variants[first as usize].body;
            let store = &index.stores[body.store as usize];
            let mut bytes = vec![0; text.len()];
            rustix::io::pread(store.fd(), &mut bytes, body.start).unwrap();
            assert_eq!((&bytes[..], body.len), (text, text.len() as u64), "{path}");
            let held = text.is_empty() || text.len() < 1000 && limit > 0;
            assert_eq!(index.variant_bytes(first), held.then_some(text), "{path}");
        }
        assert_eq!(index.find(b"/sub"), Some(Kind::AddSlash));
        assert!(index.error_page(b"/sub/none").is_some() && index.fallback.is_some());
    }
}

#[test]
fn equal_bodies_are_in_a_pack_once() {
    let mut file = stored(&site()).reopen().unwrap();
    // Two pages with equal text, three other files, and three coded bodies. One coded body equals
    // another file: "a pa", the beginning of the pages.
    assert_eq!(contents(&mut file).unwrap().blobs.len(), 6);
}

#[test]
fn a_truncated_pack_is_refused() {
    let whole = site();
    for cut in (0..whole.len()).step_by(97).chain([HEADER - 1, HEADER, whole.len() - 1]) {
        assert!(read(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(matches!(read(&[&whole[..], b"x"].concat()), Err(Flaw::Length { .. })));
    let error = format!("{:#}", load(stored(&whole[..whole.len() - 1]).path(), 0).unwrap_err());
    assert!(error.contains("should have"), "{error}");
    assert_eq!(read(&[0; 200]).unwrap_err(), Flaw::Foreign);
}

#[test]
fn an_error_names_the_version_of_an_unknown_pack() {
    let mut bytes = site();
    bytes[8] = 9;
    assert_eq!(
        read(&bytes).unwrap_err().to_string(),
        "it has version 9, but this program reads version 2; make it again with `static-server pack`"
    );
}

#[test]
fn files_share_header_blocks() {
    let names: Vec<String> = (0..1000).map(|number| format!("/{number}.css")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], &b"a{}"[..])).collect();
    let index = read(&pack(&files)).unwrap();
    assert_eq!((index.prepared.len(), index.variants.len()), (1, 1000));
}

#[test]
fn a_damaged_body_is_found_by_verification_and_named() {
    let whole = site();
    let file = stored(&whole);
    assert_eq!(verify(file.path()).unwrap(), 6);
    let mut damaged = file.reopen().unwrap();
    damaged.seek(SeekFrom::Start(whole.len() as u64 - 1)).unwrap();
    damaged.write_all(b"x").unwrap();
    let error = verify(file.path()).unwrap_err().to_string();
    assert!(error.starts_with("the body of /long at byte "), "{error}");
    // The pack can still be served, because a start reads no large body.
    load(file.path(), 1 << 20).unwrap();
}

proptest! {
    #[test]
    fn any_flipped_byte_of_header_and_index_is_detected(place in 0_usize..700, flip in 1_u8..) {
        let mut bytes = site();
        let end = usize::try_from(u64::from_le_bytes(*bytes[24..].first_chunk().unwrap())).unwrap();
        let place = place % end;
        bytes[place] ^= flip;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn an_index_with_a_correct_checksum_is_refused_or_can_be_walked(
        changes in proptest::collection::vec((16_usize..2000, any::<u8>()), 1..6),
    ) {
        let mut bytes = site();
        let end = usize::try_from(u64::from_le_bytes(*bytes[24..].first_chunk().unwrap())).unwrap();
        for (place, value) in changes {
            let place = 16 + place % (end - 16);
            bytes[place] = value;
        }
        let sum = checksum(&bytes[..HEADER], &bytes[HEADER..end]);
        bytes[CHECKED..HEADER].copy_from_slice(&sum);
        if let Ok(index) = read(&bytes) {
            walk(&index);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_can_be_walked(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(&[b"KILNPACK\x02\0\0\0", &bytes[..]].concat()).is_err());
    }
}
