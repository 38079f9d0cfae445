//! The parts of HTTP/1.1 that a gateway must understand: the end of each request and response, and
//! the host of each request.
//!
//! RFC 9112 (messages), RFC 9110 (semantics). Anything that two readers could understand differently
//! is refused, so that no request reaches the backend of another host. A *response* comes from a
//! backend; an *answer* is the gateway's own.
//!
//! | module | content |
//! | --- | --- |
//! | [`lines`] | where a head ends, and its fields |
//! | [`head`], [`response`] | the heads of requests and responses |
//! | [`headers`] | header rules: changes in the heads of requests |
//! | [`exchange`] | the order of requests and responses on a connection |
//! | [`answer`] | the gateway's own answers |

pub mod answer;
pub mod exchange;
pub mod head;
pub mod headers;
pub mod lines;
pub mod response;
#[cfg(test)]
mod tests;

/// The most bytes of a request's or a response's head.
pub const HEAD_BYTES_MAX: usize = 32 << 10;

/// The most fields of a request's head.
pub const FIELDS_MAX: usize = 256;

/// The reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not an HTTP request, or could be understood in two ways.
    BadRequest(&'static str),
    /// CONNECT: a gateway is not a forward proxy.
    Connect,
    /// No route has this name.
    NotFound,
    /// The head did not arrive in time.
    Timeout,
    /// The connection belongs to a backend that does not serve this host.
    Misdirected,
    /// The head exceeds its limit.
    TooLarge,
    /// No backend could be reached, or it ended the connection before it had responded.
    BadGateway,
    /// The backend was silent for too long.
    GatewayTimeout,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    Version,
}
