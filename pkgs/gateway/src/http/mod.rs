//! HTTP/1.1 as far as a gateway must understand it: where each request and each answer ends, and
//! whom each request is for.
//!
//! RFC 9112 (messages), RFC 9110 (semantics). Everything that two readers could take for two
//! different things is refused: that is what keeps a request from reaching another host's backend.

pub mod answer;
pub mod body;
pub mod exchange;
pub mod head;
pub mod headers;
pub mod lines;
pub mod response;
#[cfg(test)]
mod tests;

/// Most bytes of a request's or an answer's head.
pub const MOST_OF_HEAD: usize = 32 << 10;

/// Most fields of a head.
pub const MOST_FIELDS: usize = 256;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not HTTP, or it may mean two things.
    BadRequest(&'static str),
    /// CONNECT: a gateway is no forward proxy.
    Connect,
    /// No route has this name.
    NotFound,
    /// The head did not come in time.
    Timeout,
    /// The connection's backend is another one than this host's.
    Misdirected,
    /// The head is above its limit.
    TooLarge,
    /// No backend could be reached, or it ended the connection before it had answered.
    BadGateway,
    /// The backend was silent for too long.
    GatewayTimeout,
    /// Not HTTP/1.
    Version,
}
