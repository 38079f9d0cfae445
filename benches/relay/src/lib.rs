//! The two programs of this crate measure gateways: `relay-load` is all their clients and their
//! backend, `relay-floor` the least that passes bytes on.

/// The first flight of a real client that wants `www.a.test`.
pub const HELLO: &[u8] = include_bytes!("../../../pkgs/gateway/tests/support/go-1.26.hello");
