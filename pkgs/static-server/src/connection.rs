//! One client's protocol state, without I/O: bytes and the time come in as arguments, and
//! [`Connection::want`] says what to do next.
//!
//! One answer is under way at a time. While it is being written nothing is read, so a client that
//! sends without reading costs no more memory than one head.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use crate::answer::{Answer, Then, answer, plain};
use crate::request::{Method, parse};
use crate::site::Site;
use crate::status::Status;

/// How long, and how much, is read after the last answer, so that the client gets it: closing with
/// bytes unread makes the kernel send a reset, which can destroy the answer on its way (RFC 9112
/// section 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(2);
const DRAIN_BYTES: usize = 1 << 20;

/// What all connections share in one turn of the loop.
#[derive(Debug)]
pub struct Context<'a> {
    /// What is served.
    pub site: &'a Site,
    /// The time now.
    pub now: Instant,
    /// The same as a `Date` field's value.
    pub date: &'a str,
    /// Most bytes of a head.
    pub head_limit: usize,
    /// For a whole head, and for no progress of an answer.
    pub head_timeout: Duration,
    /// For no request at all.
    pub idle_timeout: Duration,
    /// The server ends: every answer is the last one of its connection.
    pub stopping: bool,
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
    /// Writes an answer.
    Answer { answer: Answer, sent: usize, then: Then },
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
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(context: &Context<'_>) -> Self {
        Self {
            phase: Phase::Head { since: context.now },
            input: Vec::new(),
            deadline: context.now + context.head_timeout,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn want(&self, context: &Context<'_>) -> Want {
        match self.phase {
            Phase::Head { .. } => Want::Read(context.head_limit - self.input.len()),
            Phase::Answer { .. } => Want::Write,
            Phase::Last => Want::HalfClose,
            Phase::Drain { .. } => Want::Discard,
            Phase::Closed => Want::Close,
        }
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
            Phase::Head { since } => Some(since),
            _ => None,
        }
    }

    /// Takes bytes from the client; none mean that it will send no more.
    pub fn received(&mut self, bytes: &[u8], context: &Context<'_>) {
        if bytes.is_empty() {
            self.phase = Phase::Closed;
            return;
        }
        let first = self.input.is_empty();
        self.input.extend_from_slice(bytes);
        if first {
            self.deadline = context.now + context.head_timeout;
        }
        // Nothing but a line's end or the limit decides anything.
        if bytes.contains(&b'\n') || self.input.len() >= context.head_limit {
            self.next_request(context);
        }
    }

    /// Answers the next request if its head is whole.
    fn next_request(&mut self, context: &Context<'_>) {
        let (answer, used, then) = match parse(&self.input, context.head_limit) {
            Ok(None) => return,
            Ok(Some((head, used))) => {
                let open = head.persistent && !context.stopping;
                let then = if open { Then::KeepAlive } else { Then::Close };
                (answer(context.site, &head, context.date, then), used, then)
            }
            Err(status) => {
                let answer = plain(status, Method::Get, context.date, Then::Close);
                (answer, self.input.len(), Then::Close)
            }
        };
        self.input.drain(..used);
        if self.input.is_empty() {
            // An idle connection holds no memory.
            self.input = Vec::new();
        }
        self.start(answer, then, context);
    }

    fn start(&mut self, answer: Answer, then: Then, context: &Context<'_>) {
        self.phase = Phase::Answer { answer, sent: 0, then };
        self.deadline = context.now + context.head_timeout;
    }

    /// What is left to write: the head, then the body.
    #[must_use]
    pub fn output(&self) -> [IoSlice<'_>; 2] {
        let Phase::Answer { answer, sent, .. } = &self.phase else {
            return [IoSlice::new(&[]), IoSlice::new(&[])];
        };
        let body = answer.body.as_ref().map_or(&[][..], |resource| &resource.body);
        let of_head = (*sent).min(answer.head.len());
        let of_body = sent - of_head;
        [IoSlice::new(&answer.head[of_head..]), IoSlice::new(&body[of_body..])]
    }

    /// Takes note of bytes that were written, of those in [`Connection::output`].
    pub fn sent(&mut self, count: usize, context: &Context<'_>) {
        self.deadline = context.now + context.head_timeout;
        let left: usize = self.output().iter().map(|slice| slice.len()).sum();
        let Phase::Answer { sent, then, .. } = &mut self.phase else { return };
        *sent += count;
        if count < left {
            return;
        }
        match then {
            Then::Close => self.phase = Phase::Last,
            Then::KeepAlive => self.wait(context),
        }
    }

    /// Waits for the next request, which may have come already.
    fn wait(&mut self, context: &Context<'_>) {
        self.phase = Phase::Head { since: context.now };
        if self.input.is_empty() {
            self.deadline = context.now + context.idle_timeout;
        } else {
            self.next_request(context);
        }
    }

    /// The client knows now that nothing follows.
    pub fn half_closed(&mut self, context: &Context<'_>) {
        self.phase = Phase::Drain { left: DRAIN_BYTES };
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

    /// The deadline has passed: a client in the middle of a head is told so, others are left.
    pub fn expired(&mut self, context: &Context<'_>) {
        if matches!(self.phase, Phase::Head { .. }) && !self.input.is_empty() {
            self.input = Vec::new();
            let answer = plain(Status::RequestTimeout, Method::Get, context.date, Then::Close);
            self.start(answer, Then::Close, context);
        } else {
            self.phase = Phase::Closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Connection, Context, DRAIN_BYTES, DRAIN_TIME, Want};
    use crate::site::Site;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    const LIMIT: usize = 300;

    fn with(run: impl FnOnce(&mut Connection, &mut Context<'_>)) {
        let site = Site::from_files([("/x", "text"), ("/y", "other text")]);
        let mut context = Context {
            site: &site,
            now: Instant::now(),
            date: "now",
            head_limit: LIMIT,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5),
            stopping: false,
        };
        run(&mut Connection::new(&context), &mut context);
    }

    /// Writes in pieces of at most `most` bytes until something else is wanted.
    fn written(connection: &mut Connection, context: &Context<'_>, most: usize) -> String {
        let mut all = Vec::new();
        while connection.want(context) == Want::Write {
            let piece: Vec<u8> =
                connection.output().iter().flat_map(|slice| slice.to_vec()).collect();
            let count = piece.len().min(most);
            all.extend_from_slice(&piece[..count]);
            connection.sent(count, context);
        }
        String::from_utf8(all).unwrap()
    }

    /// All that is answered to `input` when it comes in pieces of `size` bytes.
    fn talk(input: &[u8], size: usize, most: usize) -> (String, Want) {
        let mut result = (String::new(), Want::Close);
        with(|connection, context| {
            let mut rest = input;
            while let (Want::Read(room), false) = (connection.want(context), rest.is_empty()) {
                let piece = rest.split_off(..size.min(room).min(rest.len())).unwrap_or_default();
                connection.received(piece, context);
                result.0 += &written(connection, context, most);
            }
            result.1 = connection.want(context);
        });
        result
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let (answers, want) = talk(&[GET, &GET.replace("/x", "/y")].concat().into_bytes(), 999, 7);
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
        assert!(
            answers.find("\r\n\r\ntext").unwrap() < answers.find("\r\n\r\nother text").unwrap()
        );
        assert_eq!(want, Want::Read(LIMIT));
    }

    #[test]
    fn nothing_behind_a_bad_request_or_a_body_is_answered() {
        let body = "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 54\r\n\r\n";
        for first in [body, "GET /x\r\n\r\n"] {
            let (answers, want) = talk(&[first, GET, GET].concat().into_bytes(), 999, 999);
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{first}");
            assert!(answers.contains("\r\nConnection: close\r\n"), "{first}");
            assert_eq!(want, Want::HalfClose, "{first}");
        }
    }

    #[test]
    fn the_time_for_a_head_is_absolute_and_told_to_the_client() {
        with(|connection, context| {
            let end = context.now + context.head_timeout;
            context.now += Duration::from_secs(1);
            connection.received(b"GET", context);
            context.now += Duration::from_secs(1);
            connection.received(b" /x", context);
            assert_eq!(connection.deadline(), end + Duration::from_secs(1));
            context.now = connection.deadline();
            connection.expired(context);
            assert!(written(connection, context, 999).starts_with("HTTP/1.1 408 "));
            assert_eq!(connection.want(context), Want::HalfClose);
        });
    }

    #[test]
    fn an_idle_connection_is_closed_without_a_word() {
        with(|connection, context| {
            connection.received(GET.as_bytes(), context);
            written(connection, context, 999);
            assert_eq!(connection.deadline(), context.now + context.idle_timeout);
            assert_eq!(connection.waiting_since(), Some(context.now));
            connection.expired(context);
            assert_eq!(connection.want(context), Want::Close);
        });
    }

    #[test]
    fn a_reader_that_makes_progress_is_not_cut() {
        with(|connection, context| {
            connection.received(GET.as_bytes(), context);
            context.now += Duration::from_secs(29);
            connection.sent(1, context);
            assert_eq!(connection.deadline(), context.now + context.head_timeout);
        });
    }

    #[test]
    fn draining_is_bounded_in_time_and_size() {
        with(|connection, context| {
            connection.received(b"\n", context);
            written(connection, context, 999);
            connection.half_closed(context);
            assert_eq!(connection.deadline(), context.now + DRAIN_TIME);
            connection.discarded(DRAIN_BYTES - 1);
            assert_eq!(connection.want(context), Want::Discard);
            connection.discarded(1);
            assert_eq!(connection.want(context), Want::Close);
        });
    }

    #[test]
    fn the_last_answer_before_the_end_says_so() {
        with(|connection, context| {
            context.stopping = true;
            connection.received([GET, GET].concat().as_bytes(), context);
            let answers = written(connection, context, 999);
            assert_eq!(answers.matches("\r\nConnection: close\r\n").count(), 1);
        });
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_changes_nothing(
            parts in proptest::collection::vec(
                prop_oneof![3 => Just(GET.to_owned()), 1 => "[ -~\r\n]{0,40}"], 1..5),
            size in 1_usize..400,
            most in 1_usize..400,
        ) {
            let input = parts.concat().into_bytes();
            let (whole, cut) = (talk(&input, usize::MAX, usize::MAX), talk(&input, size, most));
            prop_assert_eq!(whole.0, cut.0);
        }
    }
}
