//! The reasons why a connection ends, and the ways to close it.

use crate::http::Refusal;
use crate::http::answer;
use crate::tls::{self, Alert};

/// The reason why a connection ended, which the access log has as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    ClientReset,
    BackendReset,
    ClientGone,
    HelloTimeout,
    ConnectTimeout,
    IdleTimeout,
    HalfClosedTimeout,
    Lifetime,
    Garbage,
    BadProxy,
    UnknownName,
    NoBackend,
    BadAnswer,
    Refused,
    Redirected,
}

impl End {
    /// Returns the word for the access log; `docs/gateway.md` lists all words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientReset => "client-reset",
            Self::BackendReset => "backend-reset",
            Self::ClientGone => "client-gone",
            Self::HelloTimeout => "hello-timeout",
            Self::ConnectTimeout => "connect-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::HalfClosedTimeout => "half-closed-timeout",
            Self::Lifetime => "lifetime",
            Self::Garbage => "garbage",
            Self::BadProxy => "bad-proxy-header",
            Self::UnknownName => "unknown-name",
            Self::NoBackend => "no-backend",
            Self::BadAnswer => "bad-answer",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
        }
    }
}

/// A way to close a connection.
///
/// A part of the connection that cannot continue returns it as its error.
#[derive(Debug)]
pub(super) enum Closing {
    /// At once.
    Now(End),
    /// After the client has received the bytes that are on their way.
    Delivered(End),
    /// After the client has received these bytes, which the gateway sends instead of anything else.
    Answer(Vec<u8>, End),
}

impl Closing {
    /// Refuses an HTTP request; the answer to HEAD has no body.
    pub(super) fn refuse(refusal: Refusal, to_head: bool, end: End) -> Self {
        Self::Answer(answer::refusal(refusal, to_head), end)
    }

    /// Sends a TLS alert.
    pub(super) fn alert(alert: Alert, end: End) -> Self {
        Self::Answer(tls::fatal(alert).to_vec(), end)
    }
}
