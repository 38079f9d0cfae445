//! A resource as an answer: the choice of variant, status and part.

use std::sync::Arc;

use super::own::{Own, quoted};
use super::ruled::keep_uncached;
use super::{Answer, Block, Payload, Piece, Request, Source, plain};
use crate::index::block::{self, fields, render};
use crate::index::{Resource, Variant};
use crate::request::{Method, Name};
use crate::rules::Change;
use crate::semantics::coding::Accepted;
use crate::semantics::condition::{Validators, Verdict, evaluate, if_range};
use crate::semantics::range::{self, Part};
use crate::status::Status;

/// The chosen variant, with the block for this answer.
pub(super) struct Chosen<'a> {
    pub(super) number: u32,
    pub(super) variant: &'a Variant,
    /// The block made for this answer; `None` if the index has a prepared block.
    pub(super) made: Option<block::Block>,
    pub(super) status: u16,
    /// `Last-Modified`: never later than `Date`, as RFC 9110 section 8.8.2.1 requires.
    pub(super) modified: Option<u64>,
}

impl Request<'_> {
    /// Answers with the resource of a path, which a redirect rule may have chosen instead of the
    /// requested one.
    pub(super) fn found(&self, path: &[u8], number: u32) -> Answer {
        let rules = &self.index.rules;
        let changes = if rules.is_late(path) {
            Some(self.changes())
        } else if path != self.path && rules.change_fields() {
            // The prepared block has the changes for its own path.
            let known = rules.early_changes(path);
            Some(self.changes().into_iter().filter(|change| !known.contains(change)).collect())
        } else {
            None
        };
        self.resource(number, changes.as_deref())
    }

    /// Answers with an error page or the single page instead of the missing resource.
    ///
    /// Header rules are applied here, because they depend on the requested path.
    pub(super) fn instead(&self, number: u32) -> Answer {
        if !self.index.rules.change_fields() {
            return self.resource(number, None);
        }
        let mut changes = self.changes();
        if self.index.resources[number as usize].status == 404 {
            keep_uncached(&mut changes);
        }
        self.resource(number, Some(&changes))
    }

    fn resource(&self, number: u32, changes: Option<&[Change]>) -> Answer {
        let resource = &self.index.resources[number as usize];
        let chosen = self.choose(resource, changes);
        if resource.status != 200 {
            return self.whole(&chosen);
        }
        let fields = &self.head.fields;
        let etag = &quoted(&chosen.variant.tag);
        let validators = Validators { etag, modified: chosen.modified };
        match evaluate(fields, &validators) {
            Verdict::Go => {}
            Verdict::NotModified => return self.not_modified(&chosen),
            Verdict::Failed => {
                return self.ruled(plain(Status::PreconditionFailed, self.head.method));
            }
        }
        let asked = fields
            .first(Name::Range)
            .filter(|_| self.head.method == Method::Get && !fields.is_repeated(Name::Range));
        match asked.filter(|_| if_range(fields, &validators)) {
            None => self.whole(&chosen),
            Some(asked) => match range::evaluate(asked, chosen.variant.body.len) {
                Part::Whole => self.whole(&chosen),
                Part::Nothing => self.ruled(unsatisfiable(chosen.variant.body.len)),
                Part::Ranges(ranges) => self.parts(&chosen, &ranges),
            },
        }
    }

    fn choose(&self, resource: &Resource, changes: Option<&[Change]>) -> Chosen<'_> {
        let variants = self.index.variants(resource);
        let best = if variants.len() > 1 {
            let accepted = Accepted::parse(self.head.fields.list(Name::AcceptEncoding));
            accepted.best(variants.iter().map(|variant| (variant.coding, variant.body.len)))
        } else {
            0
        };
        let variant = &variants[best];
        let made = changes.map(|changes| {
            let prepared = self.index.prepared(variant);
            let block = self.index.bytes(prepared.head);
            let all: Vec<_> = fields(&block[prepared.rest as usize..]).collect();
            render(resource.status, &all, changes)
        });
        let number = resource.first + u32::try_from(best).unwrap_or(0);
        let modified = resource.modified.map(|time| time.min(self.serving.now));
        Chosen { number, variant, made, status: resource.status, modified }
    }

    /// Returns the chosen variant's block from its second part on, or from its third part with
    /// `shared_only`.
    pub(super) fn block<'a>(&'a self, chosen: &'a Chosen<'_>, shared_only: bool) -> &'a [u8] {
        let prepared = self.index.prepared(chosen.variant);
        let ready = || (self.index.bytes(prepared.head), prepared.rest, prepared.shared);
        let made = chosen.made.as_ref();
        let (bytes, rest, shared) =
            made.map_or_else(ready, |made| (&made.bytes[..], made.rest, made.shared));
        bytes.get(if shared_only { shared } else { rest } as usize..).unwrap_or_default()
    }

    fn whole(&self, chosen: &Chosen<'_>) -> Answer {
        let source = self.source(chosen);
        let ready = self.index.prepared(chosen.variant).head;
        let head = match (&chosen.made, &source) {
            (Some(made), _) => Block::Made(made.bytes.clone()),
            (None, Source::Index(_)) => Block::Ready(ready),
            // The head must not keep the whole index alive.
            (None, _) => Block::Made(self.index.bytes(ready).to_vec()),
        };
        let own = own(chosen, Some(chosen.variant.body.len));
        let body = match self.head.method {
            Method::Head => Payload::Nothing,
            _ => Payload::Piece(Piece {
                variant: chosen.number,
                start: 0,
                len: chosen.variant.body.len,
            }),
        };
        Answer { status: chosen.status, head, own, source, body }
    }

    fn not_modified(&self, chosen: &Chosen<'_>) -> Answer {
        let head = [b"HTTP/1.1 304 Not Modified\r\n", self.block(chosen, true)].concat();
        let head = Block::Made(head);
        let (own, source) = (own(chosen, None), Source::Nothing);
        Answer { status: 304, head, own, source, body: Payload::Nothing }
    }

    /// Returns the memory that an answer with a variant's bytes needs.
    pub(super) fn source(&self, chosen: &Chosen<'_>) -> Source {
        match self.index.own_store(chosen.variant) {
            Some(store) => Source::Store(Arc::clone(store)),
            None => Source::Index(Arc::clone(self.index)),
        }
    }
}

/// Returns the fields of an answer with a body of this length. An error page has no validators,
/// because it is not the requested resource.
pub(super) fn own(chosen: &Chosen<'_>, length: Option<u64>) -> Own {
    let tag = (chosen.status == 200).then_some(chosen.variant.tag);
    Own { length, tag, modified: chosen.modified }
}

fn unsatisfiable(length: u64) -> Answer {
    let status = Status::RangeNotSatisfiable;
    let field = format!("Content-Range: bytes */{length}\r\n");
    Answer::text(&status.to_string(), &field, format!("{status}\n").into(), Method::Get)
}
