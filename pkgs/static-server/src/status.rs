//! Status codes that this server sends on its own (RFC 9110 section 15).

use std::fmt;

/// A status that is answered with its own name as the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The request is not HTTP as RFC 9112 has it, or may mean two things.
    BadRequest,
    /// No file has this path.
    NotFound,
    /// A known method that immutable content cannot have.
    MethodNotAllowed,
    /// The head or the body did not come in time.
    RequestTimeout,
    /// A precondition of the client does not hold.
    PreconditionFailed,
    /// The request line alone is above the limit.
    UriTooLong,
    /// No range that was asked for is there.
    RangeNotSatisfiable,
    /// No site has this host name.
    MisdirectedRequest,
    /// The fields are too many or too large.
    FieldsTooLarge,
    /// A method or a transfer coding that this server does not know.
    NotImplemented,
    /// A part of the content is missing, or the server is about to end.
    ServiceUnavailable,
    /// Not HTTP/1.
    VersionNotSupported,
}

impl Status {
    const fn parts(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::PreconditionFailed => (412, "Precondition Failed"),
            Self::UriTooLong => (414, "URI Too Long"),
            Self::RangeNotSatisfiable => (416, "Range Not Satisfiable"),
            Self::MisdirectedRequest => (421, "Misdirected Request"),
            Self::FieldsTooLarge => (431, "Request Header Fields Too Large"),
            Self::NotImplemented => (501, "Not Implemented"),
            Self::ServiceUnavailable => (503, "Service Unavailable"),
            Self::VersionNotSupported => (505, "HTTP Version Not Supported"),
        }
    }

    /// The number, 400 to 505.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.parts().0
    }
}

/// As it stands in the status line: `404 Not Found`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, reason) = self.parts();
        write!(f, "{code} {reason}")
    }
}
