//! A stub resolver (RFC 1035, RFC 5966) that waits for nothing: it says what to send, and is told
//! what came and how late it is. The messages are `kiln_daemon::dns`.

pub mod conf;
pub mod resolver;
#[cfg(test)]
mod tests;
