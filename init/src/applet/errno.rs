//! Error texts in the form that other programs print.

use rustix::io::Errno;

/// Returns the text of strerror(3).
#[must_use]
pub fn describe(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
