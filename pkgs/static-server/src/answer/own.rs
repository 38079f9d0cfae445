//! The lines of a head that belong to one answer: they follow a header block that many answers
//! share.

use crate::date::http_date;
use crate::index::Tag;

/// The most bytes of [`Own::write`]: `Content-Length` with 20 digits, `ETag` and `Last-Modified`.
pub const OWN_BYTES_MAX: usize = 38 + 42 + 46;

/// The facts about one answer; each may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// The bytes of the body.
    pub length: Option<u64>,
    /// The strong entity tag.
    pub tag: Option<Tag>,
    /// The time of the last change, in seconds since 1970.
    pub modified: Option<u64>,
}

impl Own {
    /// Writes the lines to the beginning of a buffer, which should have [`OWN_BYTES_MAX`] bytes, and
    /// returns their length.
    #[must_use]
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        let mut line = Line { buffer, used: 0 };
        if let Some(length) = self.length {
            line.push(b"Content-Length: ");
            line.decimal(length);
            line.push(b"\r\n");
        }
        if let Some(tag) = &self.tag {
            line.push(b"ETag: ");
            line.push(&quoted(tag));
            line.push(b"\r\n");
        }
        if let Some(modified) = self.modified {
            line.push(b"Last-Modified: ");
            line.push(http_date(modified).as_bytes());
            line.push(b"\r\n");
        }
        line.used
    }
}

/// Returns an entity tag as text: hexadecimal digits in quotes.
#[must_use]
pub fn quoted(tag: &Tag) -> [u8; 34] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'"'; 34];
    for (two, byte) in text[1..33].as_chunks_mut::<2>().0.iter_mut().zip(tag) {
        *two = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text
}

/// A buffer that is filled from its beginning; bytes that do not fit are dropped.
struct Line<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl Line<'_> {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(self.used..self.used + bytes.len()) {
            place.copy_from_slice(bytes);
            self.used += bytes.len();
        }
    }

    fn decimal(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] += u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                return self.push(&digits[at..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN_BYTES_MAX, Own};
    use proptest::prelude::*;

    fn text(own: &Own) -> String {
        let mut buffer = [0; OWN_BYTES_MAX];
        let len = own.write(&mut buffer);
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn the_longest_lines_fit() {
        let own = Own { length: Some(u64::MAX), tag: Some([0x5a; 16]), modified: Some(0) };
        let tag = "5a".repeat(16);
        let expected = format!(
            "Content-Length: {}\r\nETag: \"{tag}\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            u64::MAX
        );
        assert_eq!((text(&own).len(), text(&own)), (OWN_BYTES_MAX, expected));
        assert_eq!(text(&Own::default()), "");
    }

    proptest! {
        #[test]
        fn a_length_is_written_as_it_is(length in any::<u64>()) {
            let own = Own { length: Some(length), ..Own::default() };
            prop_assert_eq!(text(&own), format!("Content-Length: {length}\r\n"));
        }
    }
}
