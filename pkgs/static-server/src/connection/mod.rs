//! The protocol state of one client, without I/O: bytes and the time come in as arguments, and
//! [`Connection::want`] returns the next action.
//!
//! A connection has one answer under way at a time, and reads nothing while it writes one. A client
//! that sends without reading therefore costs no more memory than one head.

pub mod sending;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use kiln_server::access::Members;
use kiln_server::http::body::{BadBody, Body};

use crate::answer::{Answer, Serving, Source, answer, plain};
use crate::connection::sending::{Output, Progress, Sending, Then};
use crate::request::{Head, Method, Name, parse};
use crate::status::Status;

/// The time, and below the bytes, for which the server keeps reading after the last answer, so that
/// the client receives that answer. Closing a socket with unread bytes makes the kernel send a
/// reset, which can destroy the answer on its way (RFC 9112 section 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(2);
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// The most bytes of a request's body that are read in order to reach the next request.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// The time for the first bytes of a connection that was accepted while the server stops.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Sizes and times, which the options set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a head.
    pub head: usize,
    /// The time for a whole head, for a whole body, and for an answer without progress.
    pub time: Duration,
    /// The time for a connection between two requests.
    pub idle: Duration,
}

/// The data that all connections share in one turn of the loop.
#[derive(Debug)]
pub struct Context<'a> {
    /// The content for answers; `None` on the operators' port.
    pub serving: Option<Serving<'a>>,
    /// The number of the state with the content. Later states have larger numbers.
    pub generation: u64,
    /// Answers about the server itself.
    pub about: &'a dyn About,
    /// The current time.
    pub now: Instant,
    /// The current time as the value of a `Date` field.
    pub date: &'a str,
    /// Sizes and times.
    pub limits: &'a Limits,
    /// True while the server stops: every answer is the last one of its connection.
    pub stopping: bool,
    /// True if finished answers go into the access log.
    pub log: bool,
}

/// Answers about the server itself: live, ready, metrics.
pub trait About: std::fmt::Debug {
    /// Answers a request to the operators' port.
    fn answer(&self, head: &Head<'_>) -> Answer;
}

/// The next action of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Read at most this many bytes, and pass them to [`Connection::received`].
    Read(usize),
    /// Write [`Connection::output`], then call [`Connection::sent`].
    Write,
    /// Close the writing side, then call [`Connection::half_closed`].
    HalfClose,
    /// Read and discard bytes, then call [`Connection::discarded`].
    Discard,
    /// Close the connection.
    Close,
}

#[derive(Debug)]
enum Phase {
    /// Waits for a request, since this moment.
    Head { since: Instant },
    /// Discards a request's body. `input` begins with the head, which has `head` bytes.
    Body { since: Instant, body: Body, head: usize, skipped: u64 },
    /// Writes an answer.
    Answer(Box<Sending>),
    /// Has written the last answer.
    Last,
    /// Discards bytes that still arrive, at most `left` of them.
    Drain { left: usize },
    /// Closed.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// Bytes that are not answered yet: a part of a head, or the requests after the current one.
    input: Vec<u8>,
    deadline: Instant,
    /// [`Context::generation`] at the start of the last answer.
    generation: u64,
    /// True once a request has been answered.
    served: bool,
}

impl Connection {
    /// Starts with a connection that was just accepted.
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

    /// Returns the next action.
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

    /// True for an idle connection while the server stops.
    const fn is_over(&self, context: &Context<'_>) -> bool {
        context.stopping && self.served && self.input.is_empty()
    }

    /// Returns the moment at which [`Connection::expired`] must be called, unless something else
    /// happens first.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the moment since which the connection has waited for a request; `None` during an
    /// answer.
    #[must_use]
    pub const fn waiting_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Head { since } | Phase::Body { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Returns the number of bytes that the connection holds for unanswered requests.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.input.capacity()
    }

    /// True during an answer, which gets more time while the client accepts bytes.
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answer(_))
    }

    /// Returns the number of the state that the answer under way was made from, and the memory that
    /// the answer keeps alive.
    #[must_use]
    pub fn answers_from(&self) -> Option<(u64, &Source)> {
        let Phase::Answer(sending) = &self.phase else { return None };
        Some((self.generation, sending.source()))
    }

    /// Gives an answer more time, because the client has accepted bytes.
    pub fn progressed(&mut self, context: &Context<'_>) {
        self.deadline = context.now + context.limits.time;
    }

    /// Prepares for the stop of the server: a client that has not sent anything gets a last chance.
    pub fn stop(&mut self, context: &Context<'_>) {
        if matches!(self.phase, Phase::Head { .. }) && self.input.is_empty() {
            self.deadline = self.deadline.min(context.now + LAST_CHANCE);
        }
    }

    /// Handles bytes from the client. An empty slice means that the client sends no more.
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

    /// Parses a request at the beginning of `input`, and returns the number of bytes consumed.
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
            // A client that waits for a 100 gets its answer at once. The client may or may not
            // send the body then, so the start of the next request would be unknown.
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

    /// Discards the part of a body that has arrived, and answers the request at the end of the
    /// body.
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
        // The head was whole when the body began.
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

    /// Answers bytes that are not a request. No later bytes are parsed.
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

    /// Returns the bytes that are left to write.
    #[must_use]
    pub fn output(&self) -> Output<'_> {
        match &self.phase {
            Phase::Answer(sending) => sending.output(),
            _ => Output::default(),
        }
    }

    /// Records that bytes of [`Connection::output`] were written; returns the answer once it is
    /// finished.
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

    /// Waits for the next request, which may already have arrived.
    fn wait(&mut self, context: &Context<'_>) {
        if self.input.is_empty() {
            self.deadline = context.now + context.limits.idle;
        } else {
            self.next_request(context);
        }
    }

    /// Gives up an answer whose bytes are gone, and ends the connection, which is the only way to
    /// signal that to the client.
    pub fn cut(&mut self) {
        self.phase = Phase::Closed;
    }

    /// Records that the writing side is closed.
    pub fn half_closed(&mut self, context: &Context<'_>) {
        self.phase = Phase::Drain { left: DRAIN_BYTES_MAX };
        self.deadline = context.now + DRAIN_TIME;
    }

    /// Records that bytes were discarded. A count of 0 means that the client has closed the
    /// connection.
    pub fn discarded(&mut self, count: usize) {
        let Phase::Drain { left } = &mut self.phase else { return };
        *left = left.saturating_sub(count);
        if count == 0 || *left == 0 {
            self.phase = Phase::Closed;
        }
    }

    /// Handles an expired deadline. A client in the middle of a request gets a 408; any other
    /// connection is closed.
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

/// Returns the members of the access log that describe a request.
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

/// Returns HEAD or GET for bytes that are not a valid request, because an answer to HEAD never has
/// a body (RFC 9110 section 9.3.2).
fn method_of(input: &[u8]) -> Method {
    if input.starts_with(b"HEAD ") { Method::Head } else { Method::Get }
}
