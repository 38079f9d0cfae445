//! The pack reader on any bytes: it never panics, and what it accepts can be walked through.
//!
//! The lengths and the checksum are made right first, or nothing would get past them.
//! `cargo fuzz run -s none pack` in `pkgs/static-server`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use static_server::index::Kind;
use static_server::pack::layout::{CHECKED, HEADER, Header, MAGIC, VERSION};
use static_server::pack::read::{checksum, parse};

/// Bytes of the header that the input sets: the counts.
const COUNTS: std::ops::Range<usize> = 40..76;

/// Bytes of bodies behind the index.
const BODIES: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
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
    let Ok(contents) = parse(&head, index, small + BODIES) else { return };
    let index = contents.index;
    for entry in &index.entries {
        let Kind::Resource(number) = entry.kind else { continue };
        for variant in index.variants(&index.resources[number as usize]) {
            let head = index.bytes(variant.head);
            assert!(variant.rest <= variant.shared && variant.shared as usize <= head.len());
            assert!(variant.body.start + variant.body.len <= small + BODIES);
        }
    }
});
