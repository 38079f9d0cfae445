//! Status codes of the server's own answers (RFC 9110 section 15).

use std::fmt;

/// A status whose answer has the status as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The request breaks RFC 9112, or is ambiguous.
    BadRequest,
    /// There is no file at this path.
    NotFound,
    /// A known method that immutable content does not support.
    MethodNotAllowed,
    /// The head or the body took too long.
    RequestTimeout,
    /// A precondition of the client is false.
    PreconditionFailed,
    /// The request line alone exceeds the limit.
    UriTooLong,
    /// No requested range lies within the content.
    RangeNotSatisfiable,
    /// There is no site for this host name.
    MisdirectedRequest,
    /// There are too many fields, or they are too large.
    FieldsTooLarge,
    /// The method or the transfer coding is unknown.
    NotImplemented,
    /// A part of the content is missing, or the server is about to stop.
    ServiceUnavailable,
    /// The version is not HTTP/1.
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

    /// Returns the code, 400 to 505.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.parts().0
    }
}

/// Formats code and reason as in the status line: `404 Not Found`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, reason) = self.parts();
        write!(f, "{code} {reason}")
    }
}
