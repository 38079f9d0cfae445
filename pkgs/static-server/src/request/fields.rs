//! Header fields (RFC 9110 section 5, RFC 9112 section 5).
//!
//! A head is read once: while its lines are checked, the parser remembers the fields that this
//! server uses, so that later accesses are cheap.

use kiln_server::http::body::Body;
use kiln_server::http::framing::{BadFraming, Framing};
use kiln_server::http::line::field;
use kiln_server::http::syntax::members;

use crate::status::Status;

/// The fields that this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Name {
    /// `Accept-Encoding`
    AcceptEncoding,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Expect`
    Expect,
    /// `Host`
    Host,
    /// `If-Match`
    IfMatch,
    /// `If-Modified-Since`
    IfModifiedSince,
    /// `If-None-Match`
    IfNoneMatch,
    /// `If-Range`
    IfRange,
    /// `If-Unmodified-Since`
    IfUnmodifiedSince,
    /// `Range`
    Range,
    /// `Transfer-Encoding`
    TransferEncoding,
}

const KNOWN: usize = 12;

impl Name {
    /// Compares lengths first, because most of a browser's fields are not in this list.
    fn of(name: &[u8]) -> Option<Self> {
        let candidates: &[(&str, Self)] = match name.len() {
            4 => &[("host", Self::Host)],
            5 => &[("range", Self::Range)],
            6 => &[("expect", Self::Expect)],
            8 => &[("if-match", Self::IfMatch), ("if-range", Self::IfRange)],
            10 => &[("connection", Self::Connection)],
            13 => &[("if-none-match", Self::IfNoneMatch)],
            14 => &[("content-length", Self::ContentLength)],
            15 => &[("accept-encoding", Self::AcceptEncoding)],
            17 => &[
                ("transfer-encoding", Self::TransferEncoding),
                ("if-modified-since", Self::IfModifiedSince),
            ],
            19 => &[("if-unmodified-since", Self::IfUnmodifiedSince)],
            _ => &[],
        };
        let found =
            candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|(_, name)| *name)
    }
}

/// Checked field lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The lines, each with its CRLF.
    lines: &'a [u8],
    /// The first value of each known field.
    first: [Option<&'a [u8]>; KNOWN],
    /// The known fields that came more than once, one bit each.
    repeated: u16,
}

impl<'a> Fields<'a> {
    /// Starts without lines.
    pub(super) const fn new() -> Self {
        Self { lines: &[], first: [None; KNOWN], repeated: 0 }
    }

    /// Adds the range of all lines, once it is known.
    pub(super) const fn with_lines(mut self, lines: &'a [u8]) -> Self {
        self.lines = lines;
        self
    }

    /// Checks and remembers a line of [`Lines`](kiln_server::http::line::Lines).
    pub(super) fn add(&mut self, line: &'a [u8]) -> Result<(), Status> {
        let (name, value) = field(line).ok_or(Status::BadRequest)?;
        if let Some(name) = Name::of(name) {
            let slot = &mut self.first[name as usize];
            if slot.is_some() {
                self.repeated |= 1 << name as usize;
            } else {
                *slot = Some(value.trim_ascii());
            }
        }
        Ok(())
    }

    /// Returns the value of a field; the first value if the field is repeated.
    #[must_use]
    pub const fn first(&self, name: Name) -> Option<&'a [u8]> {
        self.first[name as usize]
    }

    /// True if a field came more than once.
    #[must_use]
    pub const fn is_repeated(&self, name: Name) -> bool {
        self.repeated & (1 << name as usize) != 0
    }

    /// Returns the values of all fields with a name, in order, without blanks around them.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rest = if self.is_repeated(name) { self.lines } else { &[] };
        let all = rest.split(|byte| *byte == b'\n').filter_map(move |line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (found, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            (Name::of(found) == Some(name)).then_some(value)
        });
        let only = if rest.is_empty() { self.first(name) } else { None };
        only.into_iter().chain(all)
    }

    /// Returns the non-empty members of the comma-separated list that all fields with this name
    /// form together.
    ///
    /// Not for lists that may have quoted strings.
    pub fn list(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.values(name).flat_map(members)
    }

    /// Returns the body that the fields announce.
    pub(super) fn body(&self, is_http10: bool) -> Result<Body, Status> {
        let framing = Framing {
            length: self.first(Name::ContentLength),
            coding: self.first(Name::TransferEncoding),
            length_is_repeated: self.is_repeated(Name::ContentLength),
            coding_is_repeated: self.is_repeated(Name::TransferEncoding),
        };
        framing.request_body(is_http10).map_err(|bad| match bad {
            BadFraming::Coding => Status::NotImplemented,
            _ => Status::BadRequest,
        })
    }
}
