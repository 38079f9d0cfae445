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

/// The most bytes of `_headers` and of `_redirects`.
///
/// 2,100 redirects with the longest lines take 2.1 MB, so that any file within the limits of rules
/// fits, with as many bytes of comments.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file of rules that is too large. Rules must not be read in part, because the cut could change
/// the meaning of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSize {
    /// `_headers` or `_redirects`.
    pub file: String,
    /// The length in bytes.
    pub len: u64,
}

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has {} bytes, and at most {FILE_BYTES_MAX} are read; shorten its comments",
            self.file, self.len
        )
    }
}

impl std::error::Error for BadSize {}

/// Refuses a file of rules that is larger than 4 MiB.
pub fn check_size(file: &[u8], len: u64) -> Result<(), BadSize> {
    if len <= FILE_BYTES_MAX {
        return Ok(());
    }
    let file = String::from_utf8_lossy(file.strip_prefix(b"/").unwrap_or(file)).into_owned();
    Err(BadSize { file, len })
}

/// Returns a line up to a blank and a `#`, which begin a comment.
pub(super) fn without_comment(line: &[u8]) -> &[u8] {
    let mut pairs = line.windows(2);
    let comment = pairs.position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#');
    line[..comment.unwrap_or(line.len())].trim_ascii_end()
}

/// Returns the numbered lines of a file, trimmed, without comments and empty lines. A byte order
/// mark of UTF-8 at the beginning, which some editors write, is skipped.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}
