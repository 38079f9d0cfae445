//! One client's connection as HTTP sees it: request, response, request, response.
//!
//! The backend gets one request at a time: the next head is parsed when the response before it is
//! complete. If a client sends several requests at once, they wait in its socket. Therefore the
//! gateway's own answers come in order, a response always belongs to a known request, and after a
//! refused upgrade the next request is checked like any other.

use kiln_server::http::body::Body;

use super::Refusal;
use super::head::{self, Head};
use super::lines::Scan;
use super::response::{self, BadResponse};

/// The next step for the client's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Keep them, because more bytes are needed.
    More,
    /// Drop this many bytes: an empty line before a request.
    Skip(usize),
    /// They begin with a request's head. Route it, then call [`Exchange::begin`].
    Head(Box<Head>),
    /// Send this many bytes to the backend.
    Forward(usize),
    /// Keep them until the response is complete.
    Wait,
}

/// The next step for the backend's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromBackend {
    /// Keep them, because more bytes are needed.
    More,
    /// Send this many bytes to the client.
    Forward(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Head { scan: Scan, skipped: bool },
    Body(Body),
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Response {
    /// There is no request to respond to.
    Unasked,
    Head(Scan),
    Body(Body),
    /// The response is complete, but the request is not.
    Whole,
    Opaque,
}

/// The state of a connection.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    request: Request,
    response: Response,
    to_head: bool,
    upgrade: bool,
    last: bool,
    over: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            request: Request::Head { scan: Scan::default(), skipped: false },
            response: Response::Unasked,
            to_head: false,
            upgrade: false,
            last: false,
            over: false,
        }
    }
}

impl Exchange {
    /// Parses the client's bytes: those that were kept, and those that have arrived since.
    pub fn client(&mut self, bytes: &[u8]) -> Result<FromClient, Refusal> {
        match &mut self.request {
            _ if self.over => Ok(FromClient::Wait),
            Request::Head { .. } if self.response != Response::Unasked => Ok(FromClient::Wait),
            Request::Head { skipped, .. } if !*skipped && bytes.starts_with(b"\r\n") => {
                // RFC 9112 section 2.2 asks servers to ignore an empty line before a request.
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

    /// Records that a head was routed and is sent to the backend. With `close` no other request may
    /// follow.
    pub fn begin(&mut self, head: &Head, close: bool) {
        self.request = Request::Body(head.body);
        self.response = Response::Head(Scan::default());
        self.to_head = head.is_head;
        self.upgrade = head.upgrade;
        self.last = head.close || close;
    }

    /// Parses the backend's bytes: those that were kept, and those that have arrived since.
    pub fn backend(&mut self, bytes: &[u8]) -> Result<FromBackend, BadResponse> {
        match &mut self.response {
            // Some servers send a reason before they close an idle connection. The client would take
            // that message for the response to its next request.
            Response::Unasked | Response::Whole => Err(BadResponse),
            Response::Opaque => Ok(FromBackend::Forward(bytes.len())),
            Response::Body(body) => {
                let count = body.advance(bytes).map_err(|_| BadResponse)?;
                self.settle();
                Ok(FromBackend::Forward(count))
            }
            Response::Head(scan) => match response::parse(scan, bytes, self.to_head)? {
                None => Ok(FromBackend::More),
                Some(head) => self.responded(&head),
            },
        }
    }

    fn responded(&mut self, head: &response::Head) -> Result<FromBackend, BadResponse> {
        match head.status {
            // From here on the bytes belong to another protocol (RFC 9110 section 7.8).
            101 if self.upgrade && self.is_asked() => {
                self.request = Request::Opaque;
                self.response = Response::Opaque;
            }
            101 => return Err(BadResponse),
            100..200 => self.response = Response::Head(Scan::default()),
            _ => {
                self.last |= head.close || head.body == Body::UntilClose;
                self.response = Response::Body(head.body);
                self.settle();
            }
        }
        Ok(FromBackend::Forward(head.length))
    }

    /// True once the whole request has been read.
    const fn is_asked(&self) -> bool {
        matches!(&self.request, Request::Body(body) if body.is_whole())
    }

    /// Continues with the next request once this one and its response are complete.
    fn settle(&mut self) {
        if matches!(&self.response, Response::Body(body) if body.is_whole()) {
            self.response = Response::Whole;
        }
        if self.response == Response::Whole && (self.is_asked() || self.last) {
            let over = self.last;
            *self = Self { over, last: over, ..Self::default() };
        }
    }

    /// Returns the number of client bytes that may go to the backend without being parsed.
    #[must_use]
    pub const fn opaque_up(&self) -> u64 {
        match &self.request {
            _ if self.over => 0,
            Request::Head { .. } => 0,
            Request::Body(body) => body.opaque(),
            Request::Opaque => u64::MAX,
        }
    }

    /// Returns the number of backend bytes that may go to the client without being parsed.
    #[must_use]
    pub const fn opaque_down(&self) -> u64 {
        match &self.response {
            Response::Unasked | Response::Whole | Response::Head(_) => 0,
            Response::Body(body) => body.opaque(),
            Response::Opaque => u64::MAX,
        }
    }

    /// Records that this many client bytes were sent without being parsed.
    pub fn passed_up(&mut self, count: u64) {
        if let Request::Body(body) = &mut self.request {
            body.passed(count);
            self.settle();
        }
    }

    /// Records that this many backend bytes were sent without being parsed.
    pub fn passed_down(&mut self, count: u64) {
        if let Response::Body(body) = &mut self.response {
            body.passed(count);
            self.settle();
        }
    }

    /// True if the client's bytes can be processed.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        match &self.request {
            _ if self.over => false,
            Request::Head { .. } => self.response == Response::Unasked,
            Request::Body(body) => !body.is_whole(),
            Request::Opaque => true,
        }
    }

    /// True between requests: every request has had its response.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.request, Request::Head { .. }) && self.response == Response::Unasked
    }

    /// True once the last response is complete: the connection can end.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Lets the connection end after the response that is under way, or at once between requests.
    pub fn finish(&mut self) {
        self.last = true;
        self.over |= self.is_idle();
    }

    /// True while no byte of a response has arrived, so that the gateway can still answer itself.
    #[must_use]
    pub const fn can_answer(&self) -> bool {
        matches!(self.response, Response::Unasked | Response::Head(_))
    }

    /// True if the request under way is HEAD.
    #[must_use]
    pub const fn is_to_head(&self) -> bool {
        self.to_head
    }

    /// True if the backend may end its connection now: between responses, after a whole response, or
    /// if the end of the connection marks the end of the response.
    #[must_use]
    pub const fn may_end(&self) -> bool {
        matches!(
            self.response,
            Response::Unasked
                | Response::Whole
                | Response::Body(Body::UntilClose)
                | Response::Opaque
        )
    }

    /// True once a backend's 101 has switched the connection to another protocol.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        matches!(self.response, Response::Opaque)
    }
}
