//! The properties that hold for any bytes: one function for each fuzz target.
//!
//! They are in a file of their own, without libFuzzer, so that `pkgs/server/tests/fuzz.rs` can
//! replay the checked-in inputs of `seeds/` with a plain `cargo test`.

use kiln_server::http::body::Body;
use kiln_server::http::line::{Lines, RequestLine, field};
use kiln_server::http::syntax::{is_token, members};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 2] = [("body", body), ("head", head)];

/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 8192;

/// Reads a chunked body, after a byte that states where to cut it: the cut changes nothing.
pub fn body(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    let mut whole = Body::chunked();
    let expected = whole.advance(bytes);
    let (first, second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let mut pieces = Body::chunked();
    let found = pieces.advance(first).and_then(|one| Ok(one + pieces.advance(second)?));
    assert_eq!(found.is_err(), expected.is_err());
    assert!(expected.is_err() || (found == expected && pieces == whole));
    assert!(expected.is_err() || whole.is_whole() || expected == Ok(bytes.len()));
}

/// Reads the lines of a head: no line has a CR, an LF or a NUL, its parts lie inside it, and fewer
/// bytes never give another line.
pub fn head(input: &[u8]) {
    let mut lines = Lines::new(input, HEAD_BYTES_MAX);
    while let Ok(Some(line)) = lines.read() {
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        let end = lines.position();
        assert_eq!(&input[end - line.len() - 2..end], [line, b"\r\n"].concat());
        let mut short = Lines::new(&input[end - line.len() - 2..end - 1], HEAD_BYTES_MAX);
        assert_eq!(short.read(), Ok(None));
        if let Some(request) = RequestLine::parse(line) {
            assert!(request.method.len() + request.target.len() + 10 == line.len());
        }
        if let Some((name, value)) = field(line) {
            assert!(is_token(name) && name.len() + 1 + value.len() == line.len());
            assert!(members(value).all(|member| !member.is_empty() && !member.contains(&b',')));
        }
    }
    assert!(lines.position() <= input.len().min(HEAD_BYTES_MAX));
}
