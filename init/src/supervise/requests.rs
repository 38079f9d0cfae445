//! The FIFO for requests of privileged pods, one request per line.
//!
//! The kernel delivers bytes in pieces of any size. An incomplete line waits for its end, so that
//! the first half of a word is never taken for a shorter word.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::path;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::console::kmsg;

/// The longest line in bytes, without its newline. The rest of a longer line is ignored.
const LINE_MAX: usize = 512;

/// The time after which an incomplete line is dropped. The bytes after it belong to another writer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of bytes that are read in one turn of the loop, so that a flood does not block other
/// inputs.
const TURN_MAX: usize = 4096;

/// PID 1's end of the FIFO.
pub(super) struct Requests {
    fifo: OwnedFd,
    lines: Lines,
    /// The time of the last bytes.
    last: Instant,
}

impl Requests {
    /// Makes the FIFO. It is opened for writing too, so that it never reports an end of file.
    pub(super) fn listen() -> Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, path::POWER_REQUEST, FileType::Fifo, mode, 0)
            .with_context(|| format!("cannot make {}", path::POWER_REQUEST))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(path::POWER_REQUEST, flags, Mode::empty())
            .with_context(|| format!("cannot open {}", path::POWER_REQUEST))?;
        Ok(Self { fifo, lines: Lines::default(), last: Instant::now() })
    }

    /// Returns the lines that are complete.
    pub(super) fn take(&mut self) -> Vec<String> {
        let mut bytes = [0_u8; TURN_MAX];
        let length = rustix::io::read(&self.fifo, &mut bytes).unwrap_or(0);
        if self.last.elapsed() > PATIENCE && self.lines.forget() {
            kmsg::warn(format_args!("{}: incomplete line ignored", path::POWER_REQUEST));
        }
        self.last = Instant::now();
        self.lines.take(&bytes[..length])
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// Splits pieces of bytes into lines of bounded length.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Drops an incomplete line. Returns true if there was one.
    fn forget(&mut self) -> bool {
        let begun = !self.begun.is_empty() || self.too_long;
        *self = Self::default();
        begun
    }

    /// Returns the lines completed by `bytes`, skipping empty ones.
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            self.too_long |= self.begun.len() + text.len() > LINE_MAX;
            if !self.too_long {
                self.begun.extend_from_slice(text);
            }
            if ended {
                let line = mem::take(&mut self.begun);
                if !mem::take(&mut self.too_long) && !line.is_empty() {
                    lines.push(String::from_utf8_lossy(&line).into_owned());
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LINE_MAX, Lines};

    #[test]
    fn half_a_word_waits_for_its_other_half() {
        let mut lines = Lines::default();
        assert!(lines.take(b"halt").is_empty());
        assert_eq!(lines.take(b"?\nreboot now"), ["halt?"]);
        assert_eq!(lines.take(b"\n"), ["reboot now"]);
    }

    #[test]
    fn an_incomplete_line_is_not_joined_with_that_of_the_next_writer() {
        let mut lines = Lines::default();
        assert!(!lines.forget());
        assert!(lines.take(b"reboot").is_empty());
        assert!(lines.forget());
        assert_eq!(lines.take(b"\nhalt\n\n"), ["halt"]);
    }

    #[test]
    fn a_line_without_end_is_ignored_and_the_next_one_counts() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.take(&[b'x'; 1000]).is_empty());
            assert!(lines.begun.len() <= LINE_MAX);
        }
        assert_eq!(lines.take(b"\nhalt\n"), ["halt"]);
    }

    proptest! {
        #[test]
        fn the_size_of_pieces_does_not_matter(text in "[a-c\n]{0,1500}", cuts in prop::collection::vec(1_usize..700, 0..9)) {
            let whole = Lines::default().take(text.as_bytes());
            let (mut lines, mut found, mut rest) = (Lines::default(), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (piece, next) = rest.split_at(cut.min(rest.len()));
                found.extend(lines.take(piece));
                rest = next;
            }
            found.extend(lines.take(rest));
            prop_assert_eq!(found, whole);
        }
    }
}
