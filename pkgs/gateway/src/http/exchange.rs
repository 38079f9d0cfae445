//! One client's connection as HTTP sees it: request, answer, request, answer.
//!
//! Requests are handed to the backend one at a time: the next head is looked at when the answer to
//! the one before is whole. A client may send them all at once, they wait in its socket. So the
//! gateway's own answers come in order, an answer always belongs to a known request, and after an
//! upgrade that was refused the next request is checked like any other.

use super::Refusal;
use super::body::Body;
use super::head::{self, Head};
use super::lines::Scan;
use super::response::{self, BadAnswer};

/// What to do with bytes of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// More bytes are needed; these are to be kept.
    More,
    /// An empty line before a request: to be dropped.
    Skip(usize),
    /// A request's head, which has to be routed; then [`Exchange::begin`] is to be called.
    Head(Box<Head>),
    /// So many bytes go to the backend.
    Forward(usize),
    /// Nothing is taken until the answer is whole.
    Wait,
}

/// What to do with bytes of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromBackend {
    /// More bytes are needed; these are to be kept.
    More,
    /// So many bytes go to the client.
    Forward(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Head { scan: Scan, skipped: bool },
    Body(Body),
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Nothing has been asked.
    None,
    Head(Scan),
    Body(Body),
    /// The answer is whole, but not the request.
    Whole,
    Opaque,
}

/// The state of a connection.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    request: Request,
    answer: Answer,
    to_head: bool,
    upgrade: bool,
    last: bool,
    over: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            request: Request::Head { scan: Scan::default(), skipped: false },
            answer: Answer::None,
            to_head: false,
            upgrade: false,
            last: false,
            over: false,
        }
    }
}

impl Exchange {
    /// Looks at what the client sent: everything that was kept and what came now.
    pub fn client(&mut self, bytes: &[u8]) -> Result<FromClient, Refusal> {
        match &mut self.request {
            _ if self.over => Ok(FromClient::Wait),
            Request::Head { .. } if self.answer != Answer::None => Ok(FromClient::Wait),
            Request::Head { skipped, .. } if !*skipped && bytes.starts_with(b"\r\n") => {
                // RFC 9112 section 2.2 asks to ignore one empty line before a request.
                *skipped = true;
                Ok(FromClient::Skip(2))
            }
            Request::Head { skipped, .. } if !*skipped && bytes == b"\r" => Ok(FromClient::More),
            Request::Head { scan, .. } => Ok(match head::parse(scan, bytes)? {
                None => FromClient::More,
                Some(head) => FromClient::Head(Box::new(head)),
            }),
            Request::Body(body) if body.is_whole() => Ok(FromClient::Wait),
            Request::Body(body) => {
                let count = body.advance(bytes);
                let count =
                    count.map_err(|_| Refusal::BadRequest("the request's body is malformed"))?;
                self.settle();
                Ok(FromClient::Forward(count))
            }
            Request::Opaque => Ok(FromClient::Forward(bytes.len())),
        }
    }

    /// A head was routed and goes to the backend. `close`: no further request is to follow.
    pub fn begin(&mut self, head: &Head, close: bool) {
        self.request = Request::Body(head.body.clone());
        self.answer = Answer::Head(Scan::default());
        self.to_head = head.is_head;
        self.upgrade = head.upgrade;
        self.last = head.close || close;
    }

    /// Looks at what the backend sent: everything that was kept and what came now.
    pub fn backend(&mut self, bytes: &[u8]) -> Result<FromBackend, BadAnswer> {
        match &mut self.answer {
            // Nobody asked. Some servers say so why they end an idle connection; it would be
            // taken for the answer to the next request.
            Answer::None | Answer::Whole => Err(BadAnswer),
            Answer::Opaque => Ok(FromBackend::Forward(bytes.len())),
            Answer::Body(body) => {
                let count = body.advance(bytes).map_err(|_| BadAnswer)?;
                self.settle();
                Ok(FromBackend::Forward(count))
            }
            Answer::Head(scan) => match response::parse(scan, bytes, self.to_head)? {
                None => Ok(FromBackend::More),
                Some(head) => self.answered(head),
            },
        }
    }

    fn answered(&mut self, head: response::Head) -> Result<FromBackend, BadAnswer> {
        match head.status {
            // From here on bytes are somebody else's protocol (RFC 9110 section 7.8).
            101 if self.upgrade && self.request == Request::Body(Body::NONE) => {
                self.request = Request::Opaque;
                self.answer = Answer::Opaque;
            }
            101 => return Err(BadAnswer),
            100..200 => self.answer = Answer::Head(Scan::default()),
            _ => {
                self.last |= head.close || head.body == Body::UntilClose;
                self.answer = Answer::Body(head.body);
                self.settle();
            }
        }
        Ok(FromBackend::Forward(head.length))
    }

    /// Goes on to the next request once this one and its answer are whole.
    fn settle(&mut self) {
        if matches!(&self.answer, Answer::Body(body) if body.is_whole()) {
            self.answer = Answer::Whole;
        }
        let asked = matches!(&self.request, Request::Body(body) if body.is_whole());
        if self.answer == Answer::Whole && (asked || self.last) {
            let over = self.last;
            *self = Self { over, last: over, ..Self::default() };
        }
    }

    /// Bytes of the client that may go to the backend without being looked at.
    #[must_use]
    pub fn opaque_up(&self) -> u64 {
        match &self.request {
            _ if self.over => 0,
            Request::Head { .. } => 0,
            Request::Body(body) => body.opaque(),
            Request::Opaque => u64::MAX,
        }
    }

    /// Bytes of the backend that may go to the client without being looked at.
    #[must_use]
    pub const fn opaque_down(&self) -> u64 {
        match &self.answer {
            Answer::None | Answer::Whole | Answer::Head(_) => 0,
            Answer::Body(body) => body.opaque(),
            Answer::Opaque => u64::MAX,
        }
    }

    /// So many bytes of the client have gone without being looked at.
    pub fn passed_up(&mut self, count: u64) {
        if let Request::Body(body) = &mut self.request {
            body.passed(count);
            self.settle();
        }
    }

    /// So many bytes of the backend have gone without being looked at.
    pub fn passed_down(&mut self, count: u64) {
        if let Answer::Body(body) = &mut self.answer {
            body.passed(count);
            self.settle();
        }
    }

    /// Whether bytes of the client would be taken.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        match &self.request {
            _ if self.over => false,
            Request::Head { .. } => self.answer == Answer::None,
            Request::Body(body) => !body.is_whole(),
            Request::Opaque => true,
        }
    }

    /// Between requests: nothing has been asked that is not answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.request, Request::Head { .. }) && self.answer == Answer::None
    }

    /// The last answer is whole: the connection can end.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Lets the connection end after the answer that is under way; at once where there is none.
    pub fn finish(&mut self) {
        self.last = true;
        self.over |= self.is_idle();
    }

    /// A request waits for its answer, of which nothing has come: the gateway may still answer.
    #[must_use]
    pub const fn can_answer(&self) -> bool {
        matches!(self.answer, Answer::None | Answer::Head(_))
    }

    /// Whether the request under way is HEAD.
    #[must_use]
    pub const fn is_to_head(&self) -> bool {
        self.to_head
    }

    /// Whether the end of the backend's connection is the end of the answer, or between answers;
    /// the answer may be whole before the request is.
    #[must_use]
    pub const fn may_end(&self) -> bool {
        matches!(
            self.answer,
            Answer::None | Answer::Whole | Answer::Body(Body::UntilClose) | Answer::Opaque
        )
    }

    /// Whether the bytes are another protocol's since the backend's 101.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        matches!(self.answer, Answer::Opaque)
    }
}
