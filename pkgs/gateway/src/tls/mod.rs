//! What the gateway must know of TLS: to read a `ClientHello`, and to send one alert.

pub mod hello;
#[cfg(test)]
mod tests;

/// Description of an alert (RFC 8446 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// The gateway has no working backend.
    InternalError = 80,
    /// No route has this name, or the client named none and there is no default.
    UnrecognizedName = 112,
}

/// A fatal alert as a record; TLS 1.2's version number is what all versions send (RFC 8446
/// section 5.1).
#[must_use]
pub const fn fatal(alert: Alert) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert as u8]
}
