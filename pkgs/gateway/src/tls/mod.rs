//! The part of TLS that the gateway knows: reading a `ClientHello`, and sending an alert.

pub mod hello;
#[cfg(test)]
mod tests;

/// The description of an alert (RFC 8446 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// No backend can be reached.
    InternalError = 80,
    /// No route has this name, or the client gave no name and there is no default route.
    UnrecognizedName = 112,
}

/// Returns a fatal alert as a record. All versions of TLS send TLS 1.2's version number (RFC 8446
/// section 5.1).
#[must_use]
pub const fn fatal(alert: Alert) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert as u8]
}
