//! Where a message's body ends (RFC 9112 sections 6 and 7).

use super::lines::{self, Field};

/// Most bytes of a chunk's size line, extensions included.
const MOST_OF_SIZE_LINE: u16 = 1024;

/// Most bytes of the trailer section.
const MOST_OF_TRAILERS: usize = 8 << 10;

/// Digits of a chunk's size: more than any disk holds, and no overflow.
const MOST_DIGITS: u8 = 15;

/// What is still to come of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; 0 when it is whole.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection ends; answers only.
    UntilClose,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunks {
    /// In the line with a chunk's size: the size so far, its digits, bytes of the line.
    Size {
        /// The number that the digits make.
        value: u64,
        /// How many digits there were.
        digits: u8,
        /// Bytes of the line.
        line: u16,
        /// A byte that is no digit has come.
        extension: bool,
        /// A CR has come.
        cr: bool,
    },
    /// In a chunk's data, which has this many bytes left.
    Data(u64),
    /// In the CR LF behind a chunk's data; true if CR has come.
    End(bool),
    /// In the trailer section, of which these bytes have come.
    Trailers(Vec<u8>),
    /// Behind the body.
    Whole,
}

/// The body is not what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody;

const SIZE: Chunks = Chunks::Size { value: 0, digits: 0, line: 0, extension: false, cr: false };

impl Body {
    /// No body at all.
    pub const NONE: Self = Self::Length(0);

    /// A chunked body from its beginning.
    #[must_use]
    pub const fn chunked() -> Self {
        Self::Chunked(SIZE)
    }

    /// Whether all of it has come. One that ends with the connection never is.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Whole))
    }

    /// Takes as many of these bytes as belong to the body; returns how many.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadBody> {
        match self {
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(count)
            }
            Self::Chunked(chunks) => chunks.advance(bytes),
        }
    }

    /// Bytes that may pass without being looked at.
    #[must_use]
    pub const fn opaque(&self) -> u64 {
        match self {
            Self::UntilClose => u64::MAX,
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => *left,
            Self::Chunked(_) => 0,
        }
    }

    /// Says that so many bytes, at most [`Self::opaque`], have passed without being looked at.
    pub fn passed(&mut self, count: u64) {
        match self {
            Self::UntilClose => {}
            Self::Length(left) => *left = left.saturating_sub(count),
            Self::Chunked(chunks) => {
                if let Chunks::Data(left) = chunks {
                    *left = left.saturating_sub(count);
                    if *left == 0 {
                        *chunks = Chunks::End(false);
                    }
                }
            }
        }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadBody> {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::Whole {
            if let Self::Data(left) = self {
                let rest = bytes.len() - taken;
                let count = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                taken += count;
                if *left == 0 {
                    *self = Self::End(false);
                }
            } else {
                self.byte(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Takes one byte that is not a chunk's data.
    fn byte(&mut self, byte: u8) -> Result<(), BadBody> {
        match self {
            Self::Size { .. } => return self.size(byte),
            Self::End(cr) => match (*cr, byte) {
                (false, b'\r') => *cr = true,
                (true, b'\n') => *self = SIZE,
                _ => return Err(BadBody),
            },
            Self::Trailers(section) => {
                section.push(byte);
                let good = section.len() <= MOST_OF_TRAILERS;
                let ends = section == b"\r\n" || section.ends_with(b"\r\n\r\n");
                if !good || (byte == b'\n' && !is_line_end(section)) {
                    return Err(BadBody);
                }
                if ends {
                    check_trailers(section)?;
                    *self = Self::Whole;
                }
            }
            Self::Data(_) | Self::Whole => {}
        }
        Ok(())
    }

    /// Takes one byte of the line with a chunk's size.
    fn size(&mut self, byte: u8) -> Result<(), BadBody> {
        let Self::Size { value, digits, line, extension, cr } = self else { return Err(BadBody) };
        *line += 1;
        if *line > MOST_OF_SIZE_LINE {
            return Err(BadBody);
        }
        match byte {
            b'\n' if *cr && *digits > 0 => {
                *self = if *value == 0 { Self::Trailers(Vec::new()) } else { Self::Data(*value) };
            }
            _ if *cr => return Err(BadBody),
            b'\r' => *cr = true,
            b';' if *digits > 0 => *extension = true,
            _ if *extension => {
                if byte < b' ' && byte != b'\t' || byte == 0x7f {
                    return Err(BadBody);
                }
            }
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or(BadBody)?;
                *digits += 1;
                if *digits > MOST_DIGITS {
                    return Err(BadBody);
                }
                *value = *value << 4 | u64::from(digit);
            }
        }
        Ok(())
    }
}

fn is_line_end(section: &[u8]) -> bool {
    section.ends_with(b"\r\n")
}

/// Trailers are fields like others, but none that says where a message ends or whom it is for.
fn check_trailers(section: &[u8]) -> Result<(), BadBody> {
    for field in lines::fields(section, 0) {
        let field: Field<'_> = field.ok_or(BadBody)?;
        if section[field.start..field.end - 2].contains(&b'\r') {
            return Err(BadBody);
        }
        let framing = ["content-length", "transfer-encoding", "host", "connection", "upgrade"];
        if framing.iter().any(|name| field.is(name)) {
            return Err(BadBody);
        }
    }
    Ok(())
}
