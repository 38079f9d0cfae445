//! Lines that end with CR LF, and fields (RFC 9112 sections 2.2 and 5).

/// A CR or LF that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareBreak;

/// How far the bytes of a head have been looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// Offset of the first byte that has not been looked at.
    next: usize,
    /// Offset where the current line starts.
    line: usize,
}

impl Scan {
    /// The length of a head with the empty line that ends it, once that line has come.
    ///
    /// Looks at each byte once, however the bytes come in.
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

/// Bytes before the next CR or LF.
fn next_break(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\r' || *byte == b'\n').unwrap_or(bytes.len())
}

/// A field and where its line lies in the head, with CR LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as it was sent.
    pub name: &'a [u8],
    /// Its value without blanks around it.
    pub value: &'a [u8],
    /// Offset of its line.
    pub start: usize,
    /// Offset behind its line.
    pub end: usize,
}

impl Field<'_> {
    /// Whether it has this name, which must be lower case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The members of a list (RFC 9110 section 5.6.1), without blanks and without empty ones.
    pub fn members(&self) -> impl Iterator<Item = &[u8]> {
        let members = self.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        members.filter(|member| !member.is_empty())
    }
}

/// The fields of a head, from the line at `start` to the empty line. `None` for a line that is no
/// field: a name that is no token, blanks before the colon, a continued line, a control character.
pub fn fields(head: &[u8], start: usize) -> impl Iterator<Item = Option<Field<'_>>> {
    let mut next = start;
    std::iter::from_fn(move || {
        let rest = head.get(next..)?;
        let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, start) = (&rest[..length], next);
        next += length + 2;
        (!line.is_empty()).then(|| field(line, start, next))
    })
}

fn field(line: &[u8], start: usize, end: usize) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // Bytes above ASCII are text of an older day (Latin-1), and harmless.
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let good = is_token(name) && value.iter().all(is_text);
    good.then_some(Field { name, value, start, end })
}

/// RFC 9110 section 5.6.2.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_char)
}
