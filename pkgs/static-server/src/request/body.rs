//! The body of a request: found and thrown away, never kept (RFC 9112 sections 6 and 7.1).

use crate::status::Status;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; 0 for no body.
    Length(u64),
    /// Chunks, up to an empty one.
    Chunked,
}

/// Most bytes of a line between chunks and of all trailers together.
const LINE_LIMIT: usize = 1024;

/// Skips a body, byte by byte if it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipper {
    state: State,
    /// Bytes of the current line, or of all trailers.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes of a body or of a chunk.
    Data {
        left: u64,
        chunked: bool,
    },
    /// The size of the next chunk, digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// What follows the size, up to the line's end.
    Extension {
        size: u64,
    },
    /// The LF of the size's line.
    SizeEnd {
        size: u64,
    },
    /// The CR or LF behind a chunk.
    DataCr,
    DataLf,
    /// A trailer line, or the empty line.
    Trailer {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
    Done,
}

impl Skipper {
    /// At the beginning of a body.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Data { left, chunked: false },
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self { state, line: 0 }
    }

    /// Whether the body has ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Skips what belongs to the body at the beginning of `bytes`; returns how many bytes do.
    pub fn skip(&mut self, bytes: &[u8]) -> Result<usize, Status> {
        let mut used = 0;
        while used < bytes.len() && !self.is_done() {
            if let State::Data { left, chunked } = self.state {
                let count = left.min((bytes.len() - used) as u64);
                used += usize::try_from(count).unwrap_or(usize::MAX);
                self.state = match (left - count, chunked) {
                    (0, true) => State::DataCr,
                    (0, false) => State::Done,
                    (left, _) => State::Data { left, chunked },
                };
            } else {
                self.state = self.byte(bytes[used])?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn byte(&mut self, byte: u8) -> Result<State, Status> {
        self.line += 1;
        if self.line > LINE_LIMIT {
            return Err(Status::FieldsTooLarge);
        }
        let next = match (self.state, byte) {
            (State::Size { size, digits }, _) => return size_digit(size, digits, byte),
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, byte) if is_text(byte) => State::Extension { size },
            (State::SizeEnd { size: 0 } | State::TrailerLf { empty: false }, b'\n') => {
                State::Trailer { empty: true }
            }
            (State::SizeEnd { size }, b'\n') => State::Data { left: size, chunked: true },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer { empty }, b'\r') => State::TrailerLf { empty },
            (State::Trailer { .. }, byte) if is_text(byte) => State::Trailer { empty: false },
            (State::TrailerLf { empty: true }, b'\n') => State::Done,
            _ => return Err(Status::BadRequest),
        };
        if matches!(next, State::Data { .. }) {
            self.line = 0;
        }
        Ok(next)
    }
}

/// Hexadecimal digits, at most 15 of them, then an extension or the line's end.
fn size_digit(size: u64, digits: u8, byte: u8) -> Result<State, Status> {
    match (char::from(byte).to_digit(16), byte) {
        (Some(digit), _) if digits < 15 => {
            Ok(State::Size { size: size * 16 + u64::from(digit), digits: digits + 1 })
        }
        (None, b'\r') if digits > 0 => Ok(State::SizeEnd { size }),
        (None, b';' | b' ' | b'\t') if digits > 0 => Ok(State::Extension { size }),
        _ => Err(Status::BadRequest),
    }
}

const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::{Framing, Skipper};
    use crate::status::Status;
    use proptest::prelude::*;

    /// How many bytes belong to the body, if it ends; 0 if it does not.
    fn check(framing: Framing, bytes: &str, expected: Result<usize, Status>) {
        let mut skipper = Skipper::new(framing);
        let used = skipper.skip(bytes.as_bytes());
        let found = used.map(|used| if skipper.is_done() { used } else { 0 });
        assert_eq!(found, expected, "{bytes:?}");
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        check(Framing::Length(0), "GET", Ok(0));
        check(Framing::Length(3), "abcGET", Ok(3));
        check(Framing::Length(3), "ab", Ok(0));
        check(Framing::Chunked, "0\r\n\r\nGET", Ok(5));
        check(Framing::Chunked, "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET", Ok(34));
        check(Framing::Chunked, "0\r\nA: b\r\nC: d\r\n\r\nGET", Ok(17));
        check(Framing::Chunked, "000 \r\n\r\n", Ok(8));
        check(Framing::Chunked, "3\r\nabc\r\n0\r\n", Ok(0));
    }

    #[test]
    fn chunks_that_readers_could_disagree_about_are_refused() {
        for bytes in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1\n",
            "1\rx",
            "1\r\nabc",
            "1\r\na\n",
            "0\r\n\n",
            "0\r\nA: b\n",
            "1;\0\r\n",
            "1111111111111111\r\n",
            "1\r\na\rb",
        ] {
            check(Framing::Chunked, bytes, Err(Status::BadRequest));
        }
        let long = format!("1;{}", "x".repeat(2000));
        check(Framing::Chunked, &long, Err(Status::FieldsTooLarge));
        let many = format!("0\r\n{}", "A: b\r\n".repeat(300));
        check(Framing::Chunked, &many, Err(Status::FieldsTooLarge));
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_changes_nothing(
            parts in proptest::collection::vec(
                prop_oneof!["[0-9a-f]{1,2}", "\r\n", "\r\n\r\n", "[ -~]{0,5}"], 0..9),
            cut in 0_usize..30,
        ) {
            let bytes = parts.concat().into_bytes();
            let mut whole = Skipper::new(Framing::Chunked);
            let expected = whole.skip(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut pieces = Skipper::new(Framing::Chunked);
            let found = pieces.skip(first).and_then(|one| Ok(one + pieces.skip(second)?));
            prop_assert_eq!(found.is_err(), expected.is_err());
            prop_assert!(expected.is_err() || (found == expected && pieces == whole));
        }
    }
}
