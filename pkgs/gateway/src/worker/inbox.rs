//! Bytes of the client that were not sent to a backend yet.

use rustix::io::Errno;

use super::socket::{Read, Socket};
use super::tools::Tools;

/// The client's bytes that were not consumed.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// The number of bytes that a parser has seen and found incomplete.
    seen: usize,
}

/// The result of [`Inbox::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// There are unseen bytes.
    New,
    /// Nothing can be read before the next event.
    Nothing,
    /// The client has stopped sending.
    End,
}

impl Inbox {
    /// Makes sure that there are unseen bytes, and marks them as seen.
    pub(super) fn fill(&mut self, client: &mut Socket, tools: &mut Tools) -> Result<Fill, Errno> {
        if self.bytes.len() <= self.seen {
            if !client.is_readable() {
                return Ok(Fill::Nothing);
            }
            tools.budget = tools.budget.saturating_sub(1);
            match client.read(&mut tools.scratch)? {
                Read::Bytes(count) => self.bytes.extend_from_slice(&tools.scratch[..count]),
                Read::End => return Ok(Fill::End),
                Read::Nothing => return Ok(Fill::Nothing),
            }
        }
        self.seen = self.bytes.len();
        Ok(Fill::New)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes the first `count` bytes; the rest counts as unseen.
    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.seen = 0;
    }

    /// Frees the memory of an empty inbox: an idle connection holds no buffer.
    pub(super) fn trim(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Removes all bytes.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.seen = 0;
        std::mem::take(&mut self.bytes)
    }
}
