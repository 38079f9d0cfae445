//! Header rules on answers that the index has not prepared: redirects, errors, error pages, and
//! answers to OPTIONS.
//!
//! A browser reads the answer of a redirect or an error only if its fields allow that, so the fields
//! of a rule are on every answer for the rule's path, as on Cloudflare Pages.

use super::{Answer, Block, Request};
use crate::index::block::fields;
use crate::rules::{Change, changed};

impl Request<'_> {
    /// Returns the changes that the rules make for the path of the request.
    pub(super) fn changes(&self) -> Vec<Change> {
        let host = crate::request::normalized_host(self.head.host());
        self.index.rules.changes(self.path, Some(&host))
    }

    /// Applies the rules for the path of the request to an answer without a prepared head.
    pub(super) fn ruled(&self, mut answer: Answer) -> Answer {
        let Block::Made(head) = &answer.head else { return answer };
        if !self.index.rules.change_fields() {
            return answer;
        }
        let mut changes = self.changes();
        if answer.status >= 400 {
            keep_uncached(&mut changes);
        }
        // The type describes the content, and this answer has a text of the server's own or none.
        changes.retain(|change| !change.is_about(b"content-type"));
        let end = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1);
        let (line, rest) = head.split_at(end);
        let old: Vec<_> = fields(rest).collect();
        let mut made = line.to_vec();
        for (name, value) in changed(&old, &changes) {
            made.extend([&name[..], b": ", &value, b"\r\n"].concat());
        }
        answer.head = Block::Made(made);
        answer
    }
}

/// Drops changes that could make a cache keep an error.
pub(super) fn keep_uncached(changes: &mut Vec<Change>) {
    let about = |change: &Change| change.is_about(b"cache-control") || change.is_about(b"expires");
    changes.retain(|change| !about(change));
}
