//! One client's protocol state, without I/O: bytes and the time come in as arguments, and
//! [`Connection::want`] says what to do next.
//!
//! One answer is under way at a time. While it is being written nothing is read, so a client that
//! sends without reading costs no more memory than one head.

pub mod sending;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use kiln_server::access::Members;
use kiln_server::http::body::{BadBody, Body};

use crate::answer::{Answer, Serving, answer, plain};
use crate::connection::sending::{Output, Progress, Sending, Then};
use crate::request::{Head, Method, Name, parse};
use crate::status::Status;

/// How long, and how much, is read after the last answer, so that the client gets it: closing with
/// bytes unread makes the kernel send a reset, which can destroy the answer on its way (RFC 9112
/// section 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(2);
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Most bytes of a request's body that are read for the sake of the next request.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// How long a connection that was accepted while the server ends may take for its first bytes.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// What may differ from one start, or one file of settings, to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a head.
    pub head: usize,
    /// For a whole head and for a whole body; for no progress of an answer.
    pub time: Duration,
    /// For no request at all.
    pub idle: Duration,
}

/// What all connections share in one turn of the loop.
#[derive(Debug)]
pub struct Context<'a> {
    /// What answers are made of; `None` where the program itself is asked how it is.
    pub serving: Option<Serving<'a>>,
    /// The number of the state that holds what answers are made of; later states have larger ones.
    pub generation: u64,
    /// Answers about the program itself.
    pub about: &'a dyn About,
    /// The time now.
    pub now: Instant,
    /// The same as a `Date` field's value.
    pub date: &'a str,
    /// Sizes and times.
    pub limits: &'a Limits,
    /// The server ends: every answer is the last one of its connection.
    pub stopping: bool,
    /// Whether finished answers are to be noted for the access log.
    pub log: bool,
}

/// Answers about the program itself: live, ready, metrics.
pub trait About: std::fmt::Debug {
    /// Answers a request to the port for operators.
    fn answer(&self, head: &Head<'_>) -> Answer;
}

/// What the connection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// At most this many bytes; hand them to [`Connection::received`].
    Read(usize),
    /// [`Connection::output`] written; then call [`Connection::sent`].
    Write,
    /// The writing side closed; then call [`Connection::half_closed`].
    HalfClose,
    /// Bytes read and thrown away; then call [`Connection::discarded`].
    Discard,
    /// Nothing any more.
    Close,
}

#[derive(Debug)]
enum Phase {
    /// Waits for a request, since this moment.
    Head { since: Instant },
    /// Throws a request's body away; the head is in `input`, this many bytes long.
    Body { since: Instant, body: Body, head: usize, skipped: u64 },
    /// Writes an answer.
    Answer(Box<Sending>),
    /// Has written the last answer.
    Last,
    /// Throws away what still comes, this much at the most.
    Drain { left: usize },
    /// Done.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// What has come and is not answered: a part of a head, or heads behind the current one.
    input: Vec<u8>,
    deadline: Instant,
    /// [`Context::generation`] when the last answer began.
    generation: u64,
    /// Whether a request has been answered.
    served: bool,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(context: &Context<'_>) -> Self {
        let time = if context.stopping { LAST_CHANCE } else { context.limits.time };
        Self {
            phase: Phase::Head { since: context.now },
            input: Vec::new(),
            deadline: context.now + time,
            generation: context.generation,
            served: false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn want(&self, context: &Context<'_>) -> Want {
        match self.phase {
            Phase::Head { .. } if self.is_over(context) => Want::Close,
            Phase::Head { .. } => Want::Read(context.limits.head.saturating_sub(self.input.len())),
            Phase::Body { .. } => Want::Read(usize::MAX),
            Phase::Answer(_) => Want::Write,
            Phase::Last => Want::HalfClose,
            Phase::Drain { .. } => Want::Discard,
            Phase::Closed => Want::Close,
        }
    }

    /// An idle connection has no future when the server ends.
    const fn is_over(&self, context: &Context<'_>) -> bool {
        context.stopping && self.served && self.input.is_empty()
    }

    /// When [`Connection::expired`] must be called, unless something else happens first.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Since when it waits for a request; `None` while it is being answered.
    #[must_use]
    pub const fn waiting_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Head { since } | Phase::Body { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Bytes of memory that its client makes it hold.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.input.capacity()
    }

    /// Whether an answer is under way, which is given more time while the client takes bytes.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answer(_))
    }

    /// The number of the state that the answer under way was made of.
    #[must_use]
    pub fn answers_from(&self) -> Option<u64> {
        self.is_answering().then_some(self.generation)
    }

    /// The client has taken bytes meanwhile.
    pub fn progressed(&mut self, context: &Context<'_>) {
        self.deadline = context.now + context.limits.time;
    }

    /// The server has begun to end: a client that has not sent anything gets a last chance.
    pub fn stop(&mut self, context: &Context<'_>) {
        if matches!(self.phase, Phase::Head { .. }) && self.input.is_empty() {
            self.deadline = self.deadline.min(context.now + LAST_CHANCE);
        }
    }

    /// Takes bytes from the client; none mean that it will send no more.
    pub fn received(&mut self, bytes: &[u8], context: &Context<'_>) {
        if bytes.is_empty() {
            self.phase = Phase::Closed;
        } else if let Phase::Body { .. } = self.phase {
            self.input.extend_from_slice(bytes);
            self.skip(context);
        } else if self.input.is_empty() {
            self.deadline = context.now + context.limits.time;
            let used = self.request(bytes, context);
            self.input = bytes[used..].to_vec();
            self.skip(context);
        } else {
            self.input.extend_from_slice(bytes);
            self.next_request(context);
        }
    }

    /// Answers the next request in `input`, if its head is whole.
    fn next_request(&mut self, context: &Context<'_>) {
        let input = std::mem::take(&mut self.input);
        let used = self.request(&input, context);
        self.input = input;
        self.consume(used);
        self.skip(context);
    }

    fn consume(&mut self, used: usize) {
        self.input.drain(..used.min(self.input.len()));
        if self.input.is_empty() {
            // An idle connection holds no memory.
            self.input = Vec::new();
        }
    }

    /// Looks for a request at the beginning of `input`; returns how many bytes are done with.
    fn request(&mut self, input: &[u8], context: &Context<'_>) -> usize {
        match parse(input, context.limits.head) {
            Ok(None) => 0,
            Err(status) => {
                self.refuse(status, method_of(input), context);
                input.len()
            }
            Ok(Some((head, used))) => self.requested(&head, used, input.len(), context),
        }
    }

    fn requested(
        &mut self,
        head: &Head<'_>,
        used: usize,
        all: usize,
        context: &Context<'_>,
    ) -> usize {
        match head.body {
            Body::Length(0) => {
                let then = match (head.persistent, context.stopping) {
                    (true, false) => Then::KeepAlive,
                    (false, _) if used == all => Then::Close,
                    _ => Then::CloseSlowly,
                };
                self.reply(head, then, context);
                used
            }
            // A client that waits for a 100 gets its answer at once, and may or may not send the
            // body then: nobody can tell where the next request would begin.
            Body::Length(length)
                if length > BODY_BYTES_MAX || head.fields.first(Name::Expect).is_some() =>
            {
                self.reply(head, Then::CloseSlowly, context);
                all
            }
            Body::Chunked(_) if head.fields.first(Name::Expect).is_some() => {
                self.reply(head, Then::CloseSlowly, context);
                all
            }
            body => {
                let since = context.now;
                self.phase = Phase::Body { since, body, head: used, skipped: 0 };
                self.deadline = context.now + context.limits.time;
                0
            }
        }
    }

    /// Throws away what has come of a body, and answers its request when that has ended.
    fn skip(&mut self, context: &Context<'_>) {
        let Phase::Body { since, mut body, head, skipped } = self.phase else { return };
        let used = match body.advance(&self.input[head..]) {
            Ok(used) => used,
            Err(bad) => {
                let method = method_of(&std::mem::take(&mut self.input));
                return self.refuse(status_of(bad), method, context);
            }
        };
        self.input.drain(head..head + used);
        let skipped = skipped + used as u64;
        self.phase = Phase::Body { since, body, head, skipped };
        let is_long = skipped > BODY_BYTES_MAX;
        if body.is_whole() || is_long {
            self.after_body(head, is_long, context);
        }
    }

    fn after_body(&mut self, length: usize, is_long: bool, context: &Context<'_>) {
        let input = std::mem::take(&mut self.input);
        // It was a whole head when the body began.
        if let Ok(Some((head, _))) = parse(&input[..length], context.limits.head) {
            let stay = head.persistent && !context.stopping && !is_long;
            self.reply(&head, if stay { Then::KeepAlive } else { Then::CloseSlowly }, context);
        } else {
            self.phase = Phase::Closed;
        }
        self.input = input;
        self.consume(if is_long { usize::MAX } else { length });
    }

    fn reply(&mut self, head: &Head<'_>, then: Then, context: &Context<'_>) {
        let answer = match &context.serving {
            Some(serving) => answer(serving, head),
            None => context.about.answer(head),
        };
        let log = context.log.then(|| logged(head));
        self.start(answer, then, log, context);
    }

    /// Answers what is no request; nothing after it is looked at.
    fn refuse(&mut self, status: Status, method: Method, context: &Context<'_>) {
        let log = context.log.then(logged_without_head);
        self.start(plain(status, method), Then::CloseSlowly, log, context);
    }

    fn start(&mut self, answer: Answer, then: Then, log: Option<Members>, context: &Context<'_>) {
        let sending = Sending::new(answer, then, context.date, log);
        self.phase = Phase::Answer(Box::new(sending));
        self.generation = context.generation;
        self.deadline = context.now + context.limits.time;
        self.served = true;
    }

    /// What is left to write.
    #[must_use]
    pub fn output(&self) -> Output<'_> {
        match &self.phase {
            Phase::Answer(sending) => sending.output(),
            _ => Output::default(),
        }
    }

    /// Takes note of bytes that were written, of those in [`Connection::output`]; returns the
    /// answer if it is finished.
    pub fn sent(&mut self, count: usize, context: &Context<'_>) -> Option<Box<Sending>> {
        self.deadline = context.now + context.limits.time;
        let Phase::Answer(sending) = &mut self.phase else { return None };
        if sending.sent(count) == Progress::More {
            return None;
        }
        let next = match sending.then() {
            Then::KeepAlive => Phase::Head { since: context.now },
            Then::Close => Phase::Closed,
            Then::CloseSlowly => Phase::Last,
        };
        let Phase::Answer(sending) = std::mem::replace(&mut self.phase, next) else { return None };
        if matches!(self.phase, Phase::Head { .. }) {
            self.wait(context);
        }
        Some(sending)
    }

    /// Waits for the next request, which may have come already.
    fn wait(&mut self, context: &Context<'_>) {
        if self.input.is_empty() {
            self.deadline = context.now + context.limits.idle;
        } else {
            self.next_request(context);
        }
    }

    /// What was to be sent is not there any more: only the end of the connection can say so.
    pub fn cut(&mut self) {
        self.phase = Phase::Closed;
    }

    /// The client knows now that nothing follows.
    pub fn half_closed(&mut self, context: &Context<'_>) {
        self.phase = Phase::Drain { left: DRAIN_BYTES_MAX };
        self.deadline = context.now + DRAIN_TIME;
    }

    /// Takes note of bytes that were thrown away; none mean that the client has closed.
    pub fn discarded(&mut self, count: usize) {
        let Phase::Drain { left } = &mut self.phase else { return };
        *left = left.saturating_sub(count);
        if count == 0 || *left == 0 {
            self.phase = Phase::Closed;
        }
    }

    /// The deadline has passed: a client in the middle of a request is told so, others are left.
    pub fn expired(&mut self, context: &Context<'_>) {
        let asking = matches!(self.phase, Phase::Head { .. } | Phase::Body { .. });
        if asking && !self.input.is_empty() {
            self.input = Vec::new();
            self.refuse(Status::RequestTimeout, Method::Get, context);
        } else {
            self.phase = Phase::Closed;
        }
    }
}

/// Returns the members of the access log that are about a request.
fn logged(head: &Head<'_>) -> Members {
    let mut members = Members::default();
    members.bytes("request", head.line);
    members.bytes("host", head.host());
    members
}

/// Returns the same members for bytes that are not a request.
fn logged_without_head() -> Members {
    let mut members = Members::default();
    members.null("request");
    members.null("host");
    members
}

const fn status_of(bad: BadBody) -> Status {
    match bad {
        BadBody::Malformed => Status::BadRequest,
        BadBody::TooLong => Status::FieldsTooLarge,
    }
}

/// What a head that is no request may still be known for: an answer to HEAD has no body, whatever
/// else is wrong (RFC 9110 section 9.3.2).
fn method_of(input: &[u8]) -> Method {
    if input.starts_with(b"HEAD ") { Method::Head } else { Method::Get }
}
