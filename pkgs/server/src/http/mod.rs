//! HTTP/1.1 as every server must read it: lines, fields, and the end of a body.
//!
//! RFC 9112 (messages), RFC 9110 (semantics).
//! Anything that two readers could understand differently is refused, because a request that a
//! proxy and a server understand differently can smuggle another request past the proxy.

pub mod body;
pub mod framing;
pub mod line;
pub mod syntax;
