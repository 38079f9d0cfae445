//! A device of the machine.

/// A device with its kind and its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// The modalias.
    pub modalias: String,
    /// The folder below `/sys`, with a leading `/`.
    pub path: String,
}
