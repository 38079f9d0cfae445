//! Texts of errno, as other programs print them.

use rustix::io::Errno;

/// strerror(3)'s text, which is what other programs' messages have.
#[must_use]
pub fn describe(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
