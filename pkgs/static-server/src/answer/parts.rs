//! Parts of a resource: 206 with one range, or with several as `multipart/byteranges` (RFC 9110
//! sections 14 and 15.3.7).

use std::ops::Range;

use super::found::{Chosen, own};
use super::own::quoted;
use super::{Answer, Block, Payload, Piece, Request};
use crate::index::block::fields;

impl Request<'_> {
    pub(super) fn parts(&self, chosen: &Chosen<'_>, ranges: &[Range<u64>]) -> Answer {
        let (fields, length, body) = match ranges {
            [only] => self.one(chosen, only),
            _ => self.several(chosen, ranges),
        };
        let head = [b"HTTP/1.1 206 Partial Content\r\n", &fields[..]].concat();
        let source = self.source(chosen);
        let own = own(chosen, Some(length));
        Answer { status: 206, head: Block::Made(head), own, source, body }
    }

    fn one(&self, chosen: &Chosen<'_>, range: &Range<u64>) -> (Vec<u8>, u64, Payload) {
        let place = content_range(range, chosen.variant.body.len);
        let place = format!("Content-Range: {place}\r\n");
        let fields = [place.as_bytes(), self.block(chosen, false)].concat();
        (fields, range.end - range.start, Payload::Piece(piece(chosen, range)))
    }

    fn several(&self, chosen: &Chosen<'_>, ranges: &[Range<u64>]) -> (Vec<u8>, u64, Payload) {
        // The content cannot contain the boundary, because the entity tag is a digest of the
        // content.
        let tag = quoted(&chosen.variant.tag);
        let boundary = format!("part-{}", String::from_utf8_lossy(&tag).trim_matches('"'));
        let block = self.block(chosen, false);
        let is_type = |name: &[u8]| name.eq_ignore_ascii_case(b"content-type");
        let media_type = fields(block).find(|(name, _)| is_type(name)).map(|(_, value)| value);
        let media_type = String::from_utf8_lossy(media_type.unwrap_or_default());
        let mut parts: Vec<(Vec<u8>, Piece)> = ranges
            .iter()
            .map(|range| {
                let place = content_range(range, chosen.variant.body.len);
                let before = format!(
                    "\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {place}\r\n\r\n"
                );
                (before.into_bytes(), piece(chosen, range))
            })
            .collect();
        parts.push((format!("\r\n--{boundary}--\r\n").into_bytes(), Piece::default()));
        let length: u64 = parts.iter().map(|(text, piece)| text.len() as u64 + piece.len).sum();
        let own = format!("Content-Type: multipart/byteranges; boundary={boundary}\r\n");
        let mut own = own.into_bytes();
        for (name, value) in fields(block).filter(|(name, _)| !is_type(name)) {
            own.extend([name, b": ", value, b"\r\n"].concat());
        }
        (own, length, Payload::Parts(parts))
    }
}

fn piece(chosen: &Chosen<'_>, range: &Range<u64>) -> Piece {
    Piece { variant: chosen.number, start: range.start, len: range.end - range.start }
}

fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}
