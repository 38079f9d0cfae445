//! The end of a head, and its fields (RFC 9112 sections 2.2 and 5).

use kiln_server::http::line::{self, Lines};
use kiln_server::http::syntax;

/// A CR or LF that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareBreak;

/// The search for the end of a head, which reads each byte once, however the bytes arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// Offset of the first byte that has not been searched.
    next: usize,
    /// Offset at which the current line starts.
    line: usize,
}

impl Scan {
    /// Returns the length of the head, including the empty line that ends it; `None` until that line
    /// has arrived.
    ///
    /// `bytes` are all bytes of the head so far.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareBreak> {
        while let Some(&byte) = bytes.get(self.next) {
            match byte {
                b'\n' => return Err(BareBreak),
                b'\r' => match bytes.get(self.next + 1) {
                    None => return Ok(None),
                    Some(b'\n') => {
                        let empty = self.next == self.line;
                        self.next += 2;
                        self.line = self.next;
                        if empty {
                            return Ok(Some(self.next));
                        }
                    }
                    Some(_) => return Err(BareBreak),
                },
                _ => self.next += next_break(&bytes[self.next..]),
            }
        }
        Ok(None)
    }
}

/// Returns the number of bytes before the next CR or LF.
fn next_break(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\r' || *byte == b'\n').unwrap_or(bytes.len())
}

/// A field and the place of its line in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as it was sent.
    pub name: &'a [u8],
    /// The value without blanks around it.
    pub value: &'a [u8],
    /// Offset of the line.
    pub start: usize,
    /// Offset after the line and its CR LF.
    pub end: usize,
}

impl Field<'_> {
    /// True if the field has this name, in any case.
    #[must_use]
    pub const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns the members of a list (RFC 9110 section 5.6.1), without blanks and empty members.
    pub fn members(&self) -> impl Iterator<Item = &[u8]> {
        syntax::members(self.value)
    }
}

/// Splits a whole head into its first line and its fields.
///
/// Yields `None` instead of a field for a malformed line: a name that is not a token, a blank before
/// the colon, a folded line, or a control character. The fields after it must not be read.
#[must_use]
pub fn split(head: &[u8]) -> Option<(&[u8], impl Iterator<Item = Option<Field<'_>>>)> {
    let mut lines = Lines::new(head, head.len() + 1);
    let first = lines.read().ok()??;
    let fields = std::iter::from_fn(move || {
        let start = lines.position();
        match lines.read() {
            Ok(None | Some([])) => None,
            Ok(Some(line)) => Some(field(line, start)),
            Err(_) => Some(None),
        }
    });
    Some((first, fields))
}

fn field(line: &[u8], start: usize) -> Option<Field<'_>> {
    let (name, value) = line::field(line)?;
    Some(Field { name, value: value.trim_ascii(), start, end: start + line.len() + 2 })
}
