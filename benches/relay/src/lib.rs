//! Two programs that measure gateways: `relay-load` acts as a gateway's clients and backend, and
//! `relay-floor` is the simplest program that relays bytes.

/// The first bytes of a real TLS client that connects to `www.a.test`.
pub const HELLO: &[u8] = include_bytes!("../../../pkgs/gateway/tests/support/go-1.26.hello");
