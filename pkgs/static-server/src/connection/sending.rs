//! An answer on its way, as slices of memory and a part of a file that are left to write.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use kiln_server::access::Members;

use crate::answer::own::{OWN_BYTES_MAX, Own};
use crate::answer::{Answer, Block, Payload, Piece, Source};
use crate::index::store::SENDFILE_FROM;

/// The most bytes of an answer's own fields, `Date`, `Connection` and the empty line.
const TAIL: usize = OWN_BYTES_MAX + 64;

/// An answer on its way.
#[derive(Debug)]
pub struct Sending {
    source: Source,
    head: Block,
    tail: [u8; TAIL],
    tail_len: u8,
    then: Then,
    status: u16,
    /// The text between tail and piece.
    text: std::borrow::Cow<'static, str>,
    piece: Piece,
    /// The parts after the piece, the next one last.
    parts: Vec<(Vec<u8>, Piece)>,
    /// Bytes written of head, tail and text together.
    sent_text: usize,
    /// Bytes written of the piece.
    sent_piece: u64,
    /// Bytes written in total.
    total: u64,
    log: Option<Members>,
}

/// The next action of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    KeepAlive,
    /// Close the connection at once. Nothing can be lost, because the client sends no more.
    Close,
    /// Close the connection slowly, because more bytes may still arrive.
    CloseSlowly,
}

/// The state of an answer after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes are left.
    More,
    /// Everything has been written.
    Done,
}

/// The bytes to write next.
#[derive(Debug)]
pub struct Output<'a> {
    /// Slices of memory, in order; some may be empty.
    pub slices: [IoSlice<'a>; 4],
    /// The part of a file that follows the memory.
    pub file: Option<FilePart<'a>>,
}

impl Default for Output<'_> {
    fn default() -> Self {
        Self { slices: std::array::from_fn(|_| IoSlice::new(&[])), file: None }
    }
}

/// A part of a file.
#[derive(Debug)]
pub struct FilePart<'a> {
    /// The file.
    pub fd: BorrowedFd<'a>,
    /// The offset of the first byte.
    pub offset: u64,
    /// The number of bytes.
    pub len: u64,
}

impl Sending {
    /// Starts to send an answer; `date` is the value of its `Date` field.
    #[must_use]
    pub fn new(answer: Answer, then: Then, date: &str, log: Option<Members>) -> Self {
        let (text, piece, mut parts) = match answer.body {
            Payload::Nothing => ("".into(), Piece::default(), Vec::new()),
            Payload::Text(text) => (text, Piece::default(), Vec::new()),
            Payload::Piece(piece) => ("".into(), piece, Vec::new()),
            Payload::Parts(parts) => ("".into(), Piece::default(), parts),
        };
        parts.reverse();
        let (tail, tail_len) = tail(&answer.own, date, then);
        Self {
            source: answer.source,
            head: answer.head,
            tail,
            tail_len,
            then,
            status: answer.status,
            text,
            piece,
            parts,
            sent_text: 0,
            sent_piece: 0,
            total: 0,
            log,
        }
    }

    /// Returns the next action of the connection after this answer.
    #[must_use]
    pub const fn then(&self) -> Then {
        self.then
    }

    /// Returns the status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the number of bytes written.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the memory that the answer keeps alive.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Takes the members of the access log that describe the request.
    pub const fn take_log(&mut self) -> Option<Members> {
        self.log.take()
    }

    fn head(&self) -> &[u8] {
        match (&self.head, &self.source) {
            (Block::Made(made), _) => made,
            (Block::Ready(span), Source::Index(index)) => index.bytes(*span),
            (Block::Ready(_), _) => &[],
        }
    }

    /// Returns the bytes that are left to write, up to the end of the piece.
    #[must_use]
    pub fn output(&self) -> Output<'_> {
        let tail = &self.tail[..usize::from(self.tail_len)];
        let mut skip = self.sent_text;
        let mut rest = |bytes| {
            let bytes: &[u8] = bytes;
            let cut = skip.min(bytes.len());
            skip -= cut;
            IoSlice::new(&bytes[cut..])
        };
        let (head, tail, text) = (rest(self.head()), rest(tail), rest(self.text.as_bytes()));
        let (body, file) = self.piece_left();
        Output { slices: [head, tail, text, IoSlice::new(body)], file }
    }

    /// Returns the rest of the piece, in memory or in a file.
    fn piece_left(&self) -> (&[u8], Option<FilePart<'_>>) {
        let left = self.piece.len - self.sent_piece;
        let start = self.piece.start + self.sent_piece;
        let index = match &self.source {
            _ if left == 0 => return (&[], None),
            Source::Nothing => return (&[], None),
            Source::Store(store) => {
                return (&[], Some(FilePart { fd: store.fd(), offset: start, len: left }));
            }
            Source::Index(index) => index,
        };
        if self.piece.len < SENDFILE_FROM
            && let Some(bytes) = index.variant_bytes(self.piece.variant)
        {
            let range = usize::try_from(start).ok().zip(usize::try_from(start + left).ok());
            let bytes = range.and_then(|(start, end)| bytes.get(start..end));
            return (bytes.unwrap_or_default(), None);
        }
        let body = index.variants[self.piece.variant as usize].body;
        let store = &index.stores[body.store as usize];
        (&[], Some(FilePart { fd: store.fd(), offset: body.start + start, len: left }))
    }

    /// Records that bytes were written.
    pub fn sent(&mut self, count: usize) -> Progress {
        self.total += count as u64;
        let text = self.head().len() + usize::from(self.tail_len) + self.text.len();
        let of_text = count.min(text - self.sent_text);
        self.sent_text += of_text;
        self.sent_piece += (count - of_text) as u64;
        if self.sent_text < text || self.sent_piece < self.piece.len {
            return Progress::More;
        }
        let Some((before, piece)) = self.parts.pop() else { return Progress::Done };
        self.head = Block::Made(before);
        (self.tail_len, self.text) = (0, "".into());
        (self.piece, self.sent_piece, self.sent_text) = (piece, 0, 0);
        Progress::More
    }
}

/// Returns the last lines of a head.
fn tail(own: &Own, date: &str, then: Then) -> ([u8; TAIL], u8) {
    let connection = match then {
        Then::KeepAlive => "",
        Then::Close | Then::CloseSlowly => "Connection: close\r\n",
    };
    let mut tail = [0; TAIL];
    let mut len = own.write(&mut tail);
    for part in ["Date: ", date, "\r\n", connection, "\r\n"] {
        let end = (len + part.len()).min(TAIL);
        tail[len..end].copy_from_slice(&part.as_bytes()[..end - len]);
        len = end;
    }
    (tail, u8::try_from(len).unwrap_or(0))
}
