use super::hello::{Garbage, Hello, MESSAGE_BYTES_MAX, Name, Scan};
use super::{Alert, fatal};
use proptest::prelude::*;

/// A hello as OpenSSL 3.5 sends it for `-groups X25519MLKEM768:X25519`, with fewer suites and
/// extensions. The key share has `share` bytes.
pub(crate) fn hello(name: Option<&str>, alpn: &[&str], share: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, data: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(length(data));
        extensions.extend(data);
    };
    if let Some(name) = name {
        let entry = [&[0][..], &length(name.as_bytes()), name.as_bytes()].concat();
        extension(0, &[&length(&entry)[..], &entry].concat());
    }
    extension(11, &[3, 0, 1, 2]);
    extension(10, &[0, 4, 0x11, 0xec, 0, 29]);
    if !alpn.is_empty() {
        let list: Vec<u8> = alpn
            .iter()
            .flat_map(|p| [&[u8::try_from(p.len()).unwrap()], p.as_bytes()].concat())
            .collect();
        extension(16, &[&length(&list)[..], &list].concat());
    }
    extension(43, &[4, 3, 4, 3, 3]);
    let key = vec![0x5a; share];
    let entry = [&[0x11, 0xec][..], &length(&key), &key].concat();
    extension(51, &[&length(&entry)[..], &entry].concat());
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[32],
        &[9; 32],
        &[0, 4, 0x13, 1, 0x13, 2],
        &[1, 0],
        &length(&extensions),
        &extensions,
    ]
    .concat();
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &size[1..], &body].concat()
}

fn length(data: &[u8]) -> [u8; 2] {
    u16::try_from(data.len()).unwrap().to_be_bytes()
}

/// A message in records of at most this many bytes.
pub(crate) fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[22, 3, 1][..], &length(part), part].concat()).collect()
}

fn parse(bytes: &[u8]) -> Result<Option<Hello>, Garbage> {
    Scan::default().parse(bytes)
}

fn name_of(bytes: &[u8]) -> Name {
    parse(bytes).unwrap().unwrap().name
}

fn known(name: &str) -> Name {
    Name::Known(name.to_owned())
}

/// A classical hello, and a post-quantum hello with a key share of 1,216 bytes.
fn both() -> [Vec<u8>; 2] {
    [32, 1216].map(|share| hello(Some("www.A.test."), &["h2", "http/1.1"], share))
}

#[test]
fn name_and_protocols_are_found() {
    for message in both() {
        let found = parse(&records(&message, 1 << 14)).unwrap().unwrap();
        assert_eq!(
            found,
            Hello { name: known("www.a.test"), alpn: b"\x02h2\x08http/1.1".to_vec() }
        );
    }
    assert_eq!(name_of(&records(&hello(None, &[], 32), 999)), Name::Absent);
    assert_eq!(name_of(&records(&hello(Some("a b"), &[], 32), 999)), Name::Invalid);
}

#[test]
fn the_split_into_segments_changes_nothing() {
    for message in both() {
        let bytes = records(&message, 1 << 14);
        for cut in 0..bytes.len() {
            let mut scan = Scan::default();
            assert_eq!(scan.parse(&bytes[..cut]), Ok(None), "cut at {cut}");
            assert_eq!(scan.parse(&bytes).unwrap().unwrap().name, known("www.a.test"));
        }
        let mut scan = Scan::default();
        for end in 1..bytes.len() {
            assert_eq!(scan.parse(&bytes[..end]), Ok(None), "byte by byte, {end}");
        }
        assert!(scan.parse(&bytes).unwrap().is_some());
    }
}

#[test]
fn the_split_into_records_changes_nothing() {
    for message in both() {
        for most in 1..=message.len() {
            assert_eq!(name_of(&records(&message, most)), known("www.a.test"), "records of {most}");
        }
        for count in [9, 16] {
            let bytes = records(&message, message.len().div_ceil(count));
            assert_eq!(name_of(&bytes), known("www.a.test"));
        }
    }
}

#[test]
fn a_hello_has_at_most_16_kib() {
    let share = MESSAGE_BYTES_MAX - hello(Some("a.test"), &[], 0).len() + 4;
    assert_eq!(name_of(&records(&hello(Some("a.test"), &[], share), 1 << 14)), known("a.test"));
    assert_eq!(parse(&records(&hello(Some("a.test"), &[], share + 1), 1 << 14)), Err(Garbage));
    // A large message in records of one byte has too many headers.
    assert_eq!(parse(&records(&hello(Some("a.test"), &[], 9000), 1)), Err(Garbage));
}

#[test]
fn garbage_is_refused_at_the_first_invalid_byte() {
    for bad in [
        &b"GET "[..],
        b"SSH-2.0",
        b"\0",
        b"\x16\x02",
        b"\x16\x03\x09",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x05\x02",
        b"\x80\x2e\x01",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00\x15",
    ] {
        assert_eq!(parse(bad), Err(Garbage), "{bad:?}");
    }
    assert_eq!(parse(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00"), Err(Garbage), "64 KiB announced");
    assert_eq!(parse(&records(b"\x01\0\0\0", 99)), Err(Garbage), "an empty message");
}

#[test]
fn a_repeated_or_malformed_extension_is_garbage() {
    let message = hello(Some("a.test"), &[], 32);
    let at = message.windows(6).position(|window| window == b"a.test").unwrap();
    for (offset, value) in [(0, b'!'), (5, b' ')] {
        let mut changed = message.clone();
        changed[at + offset] = value;
        assert_eq!(name_of(&records(&changed, 999)), Name::Invalid);
    }
    let mut longer = message.clone();
    longer[at - 1] += 1;
    assert_eq!(parse(&records(&longer, 999)), Err(Garbage), "a name longer than its list");
    let mut twice = message.clone();
    let second = twice.windows(4).position(|window| window == [0, 11, 0, 4]).unwrap();
    twice[second + 1] = 0;
    assert_eq!(parse(&records(&twice, 999)), Err(Garbage), "two lists of names");
}

#[test]
fn an_encrypted_hello_changes_nothing() {
    let plain = hello(Some("outer.test"), &["h2"], 32);
    // Extension 0xfe0d in place of the point formats.
    let mut encrypted = plain.clone();
    let at = encrypted.windows(4).position(|window| window == [0, 11, 0, 4]).unwrap();
    encrypted[at..at + 2].copy_from_slice(&[0xfe, 0x0d]);
    assert_eq!(parse(&records(&encrypted, 999)), parse(&records(&plain, 999)));
}

#[test]
fn an_alert_is_one_record() {
    assert_eq!(fatal(Alert::UnrecognizedName), [21, 3, 3, 0, 2, 2, 112]);
}

proptest! {
    #[test]
    fn the_split_of_any_bytes_changes_nothing(
        tail in prop::collection::vec(any::<u8>(), 0..300), valid in any::<bool>(), step in 1_usize..40,
        flip in any::<prop::sample::Index>(), to: u8,
    ) {
        let mut bytes = if valid { records(&hello(Some("a.test"), &["h2"], 64), 50) } else { tail };
        if !bytes.is_empty() {
            let at = flip.index(bytes.len());
            bytes[at] = to;
        }
        let whole = parse(&bytes);
        let mut scan = Scan::default();
        let mut last = Ok(None);
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            last = scan.parse(&bytes[..end]);
            if last != Ok(None) { break }
        }
        prop_assert_eq!(last, whole);
    }
}
