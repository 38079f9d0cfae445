//! A stub resolver (RFC 1035, RFC 5966) without I/O: it returns the packets to send, and gets the
//! packets that arrived and the time as arguments. The messages are those of `kiln_daemon::dns`.

pub mod conf;
pub mod resolver;
#[cfg(test)]
mod tests;
