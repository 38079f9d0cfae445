//! The lines of a file of rules, and complaints about them.

use std::fmt;

/// A line that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// `_headers` or `_redirects`.
    pub file: &'static str,
    /// The number of the line, from 1.
    pub line: usize,
    /// The reason.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Returns the numbered lines of a file, trimmed, without comments and empty lines.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}
