//! The properties that hold for any bytes: one function for each fuzz target.
//!
//! They are in a file of their own, without libFuzzer, so that `tests/fuzz.rs` can replay the
//! checked-in inputs of `seeds/` with a plain `cargo test`.

use static_server::index::Kind;
use static_server::pack::layout::{CHECKED, HEADER, Header, MAGIC, VERSION};
use static_server::pack::read::{checksum, parse as parse_pack};
use static_server::request::{Target as RequestTarget, parse as parse_request};
use static_server::rules::{Change, Redirect, Rules};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 3] = [("pack", pack), ("request", request), ("rules", rules)];

/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 8192;

/// The part of a pack's header that comes from the input: the counts.
const COUNTS: std::ops::Range<usize> = 40..80;

/// The bytes of bodies behind a pack's index.
const BODIES: u64 = 1 << 20;

/// Reads a pack's counts and index: an index that is accepted can be walked through. Lengths and
/// checksum are corrected first, because otherwise nothing would pass the first check.
pub fn pack(input: &[u8]) {
    if input.len() < COUNTS.len() {
        return;
    }
    let (counts, index) = input.split_at(COUNTS.len());
    let mut head = [0; HEADER];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[COUNTS].copy_from_slice(counts);
    let small = HEADER as u64 + Header::parse(&head).index();
    for (at, number) in [(16, small + BODIES), (24, small), (32, small + BODIES / 2)] {
        head[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(&head, index);
    head[CHECKED..].copy_from_slice(&sum);
    let Ok(contents) = parse_pack(&head, index, small + BODIES) else { return };
    let index = contents.index;
    for entry in &index.entries {
        let Kind::Resource(number) = entry.kind else { continue };
        for variant in index.variants(&index.resources[number as usize]) {
            let prepared = index.prepared(variant);
            let head = index.bytes(prepared.head);
            assert!(prepared.rest <= prepared.shared && prepared.shared as usize <= head.len());
            assert!(variant.body.start + variant.body.len <= small + BODIES);
        }
    }
}

/// Reads a request: more bytes change no decision, and no path leads outside.
pub fn request(input: &[u8]) {
    let whole = parse_request(input, HEAD_BYTES_MAX);
    for cut in 0..input.len() {
        let part = parse_request(&input[..cut], HEAD_BYTES_MAX);
        assert!(part == Ok(None) || part == whole, "cut at {cut}");
    }
    if let Ok(Some((head, length))) = whole {
        assert!(length <= input.len());
        if let RequestTarget::Path { path, .. } = head.target {
            assert!(path.starts_with(b"/") && !path.contains(&0));
            assert!(path.split(|byte| *byte == b'/').all(|part| part != b".." && part != b"."));
        }
    }
}

/// Reads `_headers`, `_redirects` and a path, with a NUL between them: no result can break a line
/// or name another host by accident.
pub fn rules(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (headers, redirects, path) = (part(), part(), part());
    let (rules, _) = Rules::parse(headers, redirects);
    for change in rules.changes(path, Some(b"host.example")) {
        if let Change::Set { value, .. } = change {
            assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
    if let Some(Redirect::To { location, .. }) = rules.redirect(path) {
        assert!(location.iter().all(u8::is_ascii_graphic) && !location.starts_with(b"//"));
    }
}
