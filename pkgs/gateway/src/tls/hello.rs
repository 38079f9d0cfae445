//! The `ClientHello` (RFC 8446 section 4.1.2) in any split into segments and records.
//!
//! The caller keeps the bytes, because it has to forward them unchanged. [`Scan`] remembers its
//! position, so a client that sends single bytes costs no more than a client that sends all bytes at
//! once. Only the name (RFC 6066) and the protocols (RFC 7301) are read. An encrypted `ClientHello`
//! (RFC 9849) is an extension like any other: the outer name decides the route.

use crate::name;

/// The most bytes of the message. A browser's message with a post-quantum key share has 1,800.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The most bytes including record headers. A small message may be split into records of one byte.
pub const RECORDS_BYTES_MAX: usize = 32 << 10;

/// The most bytes of a record's content.
const RECORD_BYTES_MAX: usize = 1 << 14;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// The parts of a `ClientHello` that decide the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server's name.
    pub name: Name,
    /// The protocols that the client offers, each after a byte with its length.
    pub alpn: Vec<u8>,
}

/// The server name in a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The client gave no name.
    Absent,
    /// A normalised name.
    Known(String),
    /// An invalid name, which no route can have.
    Invalid,
}

/// The bytes are not the beginning of a `ClientHello`, and more bytes cannot change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage;

/// The position in the bytes of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// Offset of the next record's header.
    next: usize,
    /// Message bytes in the records before `next`.
    got: usize,
    /// Bytes of the message and its header; 0 while the size is unknown.
    whole: usize,
}

impl Scan {
    /// Parses all bytes that have arrived; `None` while the message is incomplete.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<Hello>, Garbage> {
        while let Some(content) = self.record(bytes)? {
            self.got += content;
            self.next += RECORD_HEADER + content;
            if self.next > RECORDS_BYTES_MAX {
                return Err(Garbage);
            }
            self.size(bytes)?;
            if self.whole > 0 && self.got >= self.whole {
                return message(&self.message(bytes)).map(Some).ok_or(Garbage);
            }
        }
        if bytes.len() > RECORDS_BYTES_MAX { Err(Garbage) } else { Ok(None) }
    }

    /// Returns the length of the next record's content, once the content is complete. Each byte of the
    /// header is checked as soon as it has arrived.
    fn record(&self, bytes: &[u8]) -> Result<Option<usize>, Garbage> {
        let rest = bytes.get(self.next..).unwrap_or_default();
        let kind = rest.first().is_none_or(|kind| *kind == HANDSHAKE);
        // 3.0 is SSL 3; real clients send 3.1 or 3.3.
        let major = rest.get(1).is_none_or(|major| *major == 3);
        let minor = rest.get(2).is_none_or(|minor| *minor <= 4);
        if !(kind && major && minor) {
            return Err(Garbage);
        }
        let Some([_, _, _, high, low]) = rest.first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Garbage);
        }
        // The first record begins with the message's header, so garbage is detected early.
        if self.next == 0 && rest.get(RECORD_HEADER).is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Garbage);
        }
        Ok((rest.len() >= RECORD_HEADER + length).then_some(length))
    }

    /// Reads the message's size, once its header is complete.
    fn size(&mut self, bytes: &[u8]) -> Result<(), Garbage> {
        if self.whole > 0 || self.got < MESSAGE_HEADER {
            return Ok(());
        }
        let mut header = contents(bytes, self.next).flatten();
        let mut next = || usize::from(*header.next().unwrap_or(&0));
        let (_, high, middle, low) = (next(), next(), next(), next());
        let length = high << 16 | middle << 8 | low;
        if length > MESSAGE_BYTES_MAX {
            return Err(Garbage);
        }
        self.whole = MESSAGE_HEADER + length;
        Ok(())
    }

    /// Returns the message without its header and without the bytes after it.
    fn message<'a>(&self, bytes: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let mut records = contents(bytes, self.next);
        let first = records.next().unwrap_or_default();
        if let Some(whole) = first.get(MESSAGE_HEADER..self.whole) {
            return whole.into();
        }
        let all = contents(bytes, self.next).flatten().copied();
        all.skip(MESSAGE_HEADER).take(self.whole - MESSAGE_HEADER).collect::<Vec<u8>>().into()
    }
}

/// Returns the contents of the records before an offset.
fn contents(bytes: &[u8], end: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let [_, _, _, high, low] = rest.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, after) = rest[RECORD_HEADER..].split_at_checked(length)?;
        rest = after;
        Some(content)
    })
}

/// Parses a message's body; `None` if the lengths of its parts contradict each other.
fn message(body: &[u8]) -> Option<Hello> {
    let mut rest = body.get(2 + 32..)?;
    let session = vector8(&mut rest)?;
    let suites = vector16(&mut rest)?;
    let compression = vector8(&mut rest)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let mut hello = Hello { name: Name::Absent, alpn: Vec::new() };
    if rest.is_empty() {
        return Some(hello);
    }
    let mut extensions = vector16(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut seen = [false; 2];
    while !extensions.is_empty() {
        let kind = number16(&mut extensions)?;
        let data = vector16(&mut extensions)?;
        let slot = match kind {
            SERVER_NAME => 0,
            ALPN => 1,
            _ => continue,
        };
        // A repetition is forbidden (RFC 8446 section 4.2): two readers could use different copies.
        if std::mem::replace(&mut seen[slot], true) {
            return None;
        }
        if slot == 0 { hello.name = server_name(data)? } else { hello.alpn = alpn(data)? }
    }
    Some(hello)
}

/// Parses the list of names, which may have one name of each kind. Only one kind is defined.
fn server_name(mut data: &[u8]) -> Option<Name> {
    let mut list = vector16(&mut data)?;
    if list.is_empty() || !data.is_empty() {
        return None;
    }
    let mut found = None;
    while !list.is_empty() {
        let kind = number8(&mut list)?;
        let text = vector16(&mut list)?;
        if kind == HOST_NAME && found.replace(text).is_some() {
            return None;
        }
    }
    Some(
        found.map_or(Name::Absent, |text| name::normalise(text).map_or(Name::Invalid, Name::Known)),
    )
}

fn alpn(mut data: &[u8]) -> Option<Vec<u8>> {
    let list = vector16(&mut data)?;
    let mut rest = list;
    while !rest.is_empty() {
        vector8(&mut rest).filter(|protocol| !protocol.is_empty())?;
    }
    (data.is_empty() && !list.is_empty()).then(|| list.to_vec())
}

fn number8(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn number16(rest: &mut &[u8]) -> Option<u16> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_be_bytes(*first))
}

fn vector8<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number8(rest)?;
    take(rest, length.into())
}

fn vector16<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number16(rest)?;
    take(rest, length.into())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (data, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(data)
}
