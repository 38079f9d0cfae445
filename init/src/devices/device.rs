//! A device.

/// A device by what it is and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Its modalias.
    pub modalias: String,
    /// Its folder below `/sys`, with a `/` in front.
    pub path: String,
}
