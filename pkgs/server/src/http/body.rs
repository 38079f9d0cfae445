//! The end of a message's body (RFC 9112 sections 6 and 7).
//!
//! No bytes are kept: a body is only counted, chunk by chunk and byte by byte between chunks, so
//! that the caller can forward or discard it.

use super::syntax::{is_text_byte, is_token_byte};

/// The most bytes of a chunk's size line, extensions included.
const SIZE_LINE_BYTES_MAX: u16 = 1024;

/// The most bytes of the trailer section.
const TRAILER_BYTES_MAX: u16 = 8 << 10;

/// The most digits of a chunk's size: more bytes than any disk holds, and no overflow.
const SIZE_DIGITS_MAX: u8 = 15;

/// Fields that a trailer section must not have, because they state where a message ends or which
/// host it is for (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade"];

/// One more than the length of the longest name in [`NOT_IN_TRAILERS`], to recognise longer names.
const NAME_BYTES_MAX: usize = 18;

/// The part of a body that is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// This many bytes; 0 at the end.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All bytes until the connection ends; only responses have such a body.
    UntilClose,
}

/// The reason why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// The chunks or the trailers break the grammar.
    Malformed,
    /// A size line or the trailer section exceeds its limit.
    TooLong,
}

/// The position in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// True if blanks may follow a chunk's size (RFC 9112 section 7.1.1 allows them before a
    /// semicolon).
    blanks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line with a chunk's size.
    Size(SizeLine),
    /// In a chunk's data, with this many bytes left.
    Data(u64),
    /// In the CRLF after a chunk's data; true after the CR.
    DataEnd(bool),
    /// In the trailer section.
    Trailers(Trailers),
    /// After the body.
    End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SizeLine {
    /// The value of the digits so far.
    size: u64,
    digits: u8,
    /// Bytes of the line so far.
    bytes: u16,
    /// True after a blank behind the digits.
    blank: bool,
    /// True after a semicolon.
    extension: bool,
    /// True after a CR.
    cr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailers {
    /// Bytes of the section so far.
    bytes: u16,
    place: Place,
    /// The beginning of the current line's name, in lower case.
    name: [u8; NAME_BYTES_MAX],
    /// Bytes of `name` that are in use.
    name_len: u8,
}

/// The position in a line of the trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning of a line.
    Start,
    /// After the CR of the empty line.
    EmptyCr,
    /// In a field's name.
    Name,
    /// In a field's value.
    Value,
    /// After the CR of a field line.
    FieldCr,
}

impl Body {
    /// An empty body.
    pub const NONE: Self = Self::Length(0);

    /// Returns a chunked body at its beginning.
    #[inline]
    #[must_use]
    pub const fn chunked() -> Self {
        Self::chunks(false)
    }

    /// Returns a chunked body of a response at its beginning. Blanks may follow a chunk's size, as
    /// some servers send them: a response cannot smuggle a request.
    #[inline]
    #[must_use]
    pub const fn chunked_response() -> Self {
        Self::chunks(true)
    }

    const fn chunks(blanks: bool) -> Self {
        let line =
            SizeLine { size: 0, digits: 0, bytes: 0, blank: false, extension: false, cr: false };
        Self::Chunked(Chunks { state: State::Size(line), blanks })
    }

    /// True at the end of the body. A body that ends with the connection never reaches this state.
    #[inline]
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks { state: State::End, .. }))
    }

    /// Consumes the bytes at the beginning of `bytes` that belong to the body, and returns their
    /// number.
    #[inline]
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadBody> {
        match self {
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => Ok(take(left, bytes.len())),
            Self::Chunked(Chunks { state, blanks }) => state.advance(bytes, *blanks),
        }
    }

    /// Returns the number of bytes that may pass without being read.
    #[inline]
    #[must_use]
    pub const fn opaque(&self) -> u64 {
        match self {
            Self::UntilClose => u64::MAX,
            Self::Length(left) | Self::Chunked(Chunks { state: State::Data(left), .. }) => *left,
            Self::Chunked(_) => 0,
        }
    }

    /// Records that this many bytes, at most [`Self::opaque`], have passed without being read.
    #[inline]
    pub const fn passed(&mut self, count: u64) {
        match self {
            Self::UntilClose => {}
            Self::Length(left) => *left = left.saturating_sub(count),
            Self::Chunked(Chunks { state, .. }) => {
                if let State::Data(left) = state {
                    *state = State::data(left.saturating_sub(count));
                }
            }
        }
    }
}

/// Subtracts at most `available` bytes from `left`, and returns the number subtracted.
#[inline]
fn take(left: &mut u64, available: usize) -> usize {
    let count = available.min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= count as u64;
    count
}

impl State {
    const fn data(left: u64) -> Self {
        if left == 0 { Self::DataEnd(false) } else { Self::Data(left) }
    }

    fn advance(&mut self, bytes: &[u8], blanks: bool) -> Result<usize, BadBody> {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::End {
            if let Self::Data(left) = self {
                taken += take(left, bytes.len() - taken);
                *self = Self::data(*left);
            } else {
                *self = self.after(bytes[taken], blanks)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Returns the state after a byte that is not a chunk's data.
    fn after(self, byte: u8, blanks: bool) -> Result<Self, BadBody> {
        match self {
            Self::Size(line) => line.after(byte, blanks),
            Self::DataEnd(false) if byte == b'\r' => Ok(Self::DataEnd(true)),
            Self::DataEnd(true) if byte == b'\n' => Ok(Self::Size(SizeLine::default())),
            Self::Trailers(trailers) => trailers.after(byte),
            Self::DataEnd(_) | Self::Data(_) | Self::End => Err(BadBody::Malformed),
        }
    }
}

impl SizeLine {
    fn after(mut self, byte: u8, blanks: bool) -> Result<State, BadBody> {
        self.bytes += 1;
        if self.bytes > SIZE_LINE_BYTES_MAX {
            return Err(BadBody::TooLong);
        }
        match byte {
            b'\n' if self.cr && self.digits > 0 => return Ok(self.end()),
            _ if self.cr => return Err(BadBody::Malformed),
            b'\r' => self.cr = true,
            b';' if self.digits > 0 => self.extension = true,
            _ if self.extension && is_text_byte(byte) => {}
            _ if self.extension => return Err(BadBody::Malformed),
            b' ' | b'\t' if blanks && self.digits > 0 => self.blank = true,
            _ if self.blank => return Err(BadBody::Malformed),
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or(BadBody::Malformed)?;
                self.digits += 1;
                if self.digits > SIZE_DIGITS_MAX {
                    return Err(BadBody::Malformed);
                }
                self.size = self.size << 4 | u64::from(digit);
            }
        }
        Ok(State::Size(self))
    }

    const fn end(self) -> State {
        if self.size > 0 {
            return State::Data(self.size);
        }
        State::Trailers(Trailers {
            bytes: 0,
            place: Place::Start,
            name: [0; NAME_BYTES_MAX],
            name_len: 0,
        })
    }
}

impl Trailers {
    fn after(mut self, byte: u8) -> Result<State, BadBody> {
        self.bytes += 1;
        if self.bytes > TRAILER_BYTES_MAX {
            return Err(BadBody::TooLong);
        }
        self.place = match (self.place, byte) {
            (Place::Start, b'\r') => Place::EmptyCr,
            (Place::EmptyCr, b'\n') => return Ok(State::End),
            (Place::Start, _) if is_token_byte(byte) => {
                self.name_len = 0;
                self.push(byte)
            }
            (Place::Name, b':') if !self.is_forbidden() => Place::Value,
            (Place::Name, _) if is_token_byte(byte) => self.push(byte),
            (Place::Value, b'\r') => Place::FieldCr,
            (Place::Value, _) if is_text_byte(byte) => Place::Value,
            (Place::FieldCr, b'\n') => Place::Start,
            _ => return Err(BadBody::Malformed),
        };
        Ok(State::Trailers(self))
    }

    /// Adds a byte to the name, if there is room.
    fn push(&mut self, byte: u8) -> Place {
        if let Some(slot) = self.name.get_mut(usize::from(self.name_len)) {
            *slot = byte.to_ascii_lowercase();
            self.name_len += 1;
        }
        Place::Name
    }

    fn is_forbidden(&self) -> bool {
        NOT_IN_TRAILERS.contains(&&self.name[..usize::from(self.name_len)])
    }
}

#[cfg(test)]
mod tests {
    use super::{BadBody, Body, NAME_BYTES_MAX, NOT_IN_TRAILERS};
    use proptest::prelude::*;

    /// Checks the number of bytes that belong to the body; 0 means that the body has not ended.
    fn check(mut body: Body, bytes: &str, expected: Result<usize, BadBody>) {
        let taken = body.advance(bytes.as_bytes());
        let found = taken.map(|taken| if body.is_whole() { taken } else { 0 });
        assert_eq!(found, expected, "{bytes:?}");
    }

    #[test]
    fn a_body_ends_where_its_framing_states() {
        check(Body::NONE, "GET", Ok(0));
        check(Body::Length(3), "abcGET", Ok(3));
        check(Body::Length(3), "ab", Ok(0));
        check(Body::UntilClose, "abc", Ok(0));
        check(Body::chunked(), "0\r\n\r\nGET", Ok(5));
        check(Body::chunked(), "3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET", Ok(34));
        check(Body::chunked(), "0\r\nA: b\r\nC:\td\r\n\r\nGET", Ok(17));
        check(Body::chunked(), "3\r\nabc\r\n0\r\n", Ok(0));
    }

    #[test]
    fn chunks_that_readers_could_understand_differently_are_refused() {
        for bytes in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\rx",
            "1\r\nabc",
            "1\r\na\n",
            "0\r\n\n",
            "1;\0\r\n",
            "1;\u{7f}\r\n",
            "1111111111111111\r\n",
            "1\r\na\rb",
        ] {
            check(Body::chunked(), bytes, Err(BadBody::Malformed));
        }
    }

    #[test]
    fn blanks_may_follow_the_size_in_a_response() {
        for bytes in ["1  \r\na\r\n0\r\n\r\n", "1\t ;x = y\r\na\r\n0 \r\n\r\n"] {
            check(Body::chunked_response(), bytes, Ok(bytes.len()));
            check(Body::chunked(), bytes, Err(BadBody::Malformed));
        }
        for bytes in [" 1\r\n", "1 1\r\n", "1 x\r\n", "1 \n"] {
            check(Body::chunked_response(), bytes, Err(BadBody::Malformed));
        }
    }

    #[test]
    fn a_trailer_is_a_field_that_does_not_frame_the_message() {
        for trailers in
            ["A: b\n", "A b\r\n", ": b\r\n", " A: b\r\n", "A : b\r\n", "A: b\rc", "A: \0"]
        {
            check(Body::chunked(), &format!("0\r\n{trailers}"), Err(BadBody::Malformed));
        }
        for name in NOT_IN_TRAILERS.map(|name| str::from_utf8(name).unwrap().to_uppercase()) {
            check(Body::chunked(), &format!("0\r\n{name}: a\r\n\r\n"), Err(BadBody::Malformed));
            let longer = format!("0\r\n{name}-A: a\r\n\r\n");
            check(Body::chunked(), &longer, Ok(longer.len()));
        }
        assert!(NOT_IN_TRAILERS.iter().all(|name| name.len() < NAME_BYTES_MAX));
    }

    #[test]
    fn size_lines_and_trailers_have_limits() {
        let long = format!("1;{}", "x".repeat(2000));
        check(Body::chunked(), &long, Err(BadBody::TooLong));
        let many = format!("0\r\n{}", "A: b\r\n".repeat(2000));
        check(Body::chunked(), &many, Err(BadBody::TooLong));
    }

    #[test]
    fn bytes_may_pass_without_being_read() {
        let mut body = Body::chunked();
        assert_eq!(body.opaque(), 0);
        assert_eq!(body.advance(b"A\r\n01"), Ok(5));
        assert_eq!(body.opaque(), 8);
        body.passed(8);
        assert_eq!(body.opaque(), 0);
        assert_eq!(body.advance(b"\r\n0\r\n\r\n"), Ok(7));
        assert!(body.is_whole());
        let mut body = Body::Length(9);
        body.passed(9);
        assert!(body.is_whole());
        assert_eq!(Body::UntilClose.opaque(), u64::MAX);
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_changes_nothing(
            parts in proptest::collection::vec(
                prop_oneof!["[0-9a-f]{1,2}", "\r\n", "\r\n\r\n", "0\r\n", "[ -~]{0,5}", "A: b"], 0..9),
            step in 1_usize..9,
        ) {
            let bytes = parts.concat().into_bytes();
            let mut whole = Body::chunked();
            let expected = whole.advance(&bytes);
            let mut body = Body::chunked();
            let mut found = Ok(0);
            for piece in bytes.chunks(step) {
                match body.advance(piece) {
                    Ok(count) => found = found.map(|before: usize| before + count),
                    Err(bad) => { found = Err(bad); break }
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert!(expected.is_err() || body == whole);
        }

        #[test]
        fn every_body_that_is_written_in_chunks_is_read_to_its_end(
            chunks in proptest::collection::vec("[a-z\r\n]{1,30}", 0..5), rest in "[ -~]{0,9}",
        ) {
            let written: Vec<String> =
                chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
            let message = written.concat() + "0\r\n\r\n";
            let mut body = Body::chunked();
            prop_assert_eq!(body.advance(format!("{message}{rest}").as_bytes()), Ok(message.len()));
            prop_assert!(body.is_whole());
        }
    }
}
