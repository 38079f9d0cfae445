//! The format of log files: one line per line of output, with its time and its source.
//!
//! ```text
//! -- boot 0b7b2f5c-6a3d-4c3e-9d0a-0d2f5a3f1e11
//! 2026-11-21T14:43:00.123456Z 12.345678 kubelet[321]: what kubelet wrote
//! ```
//!
//! A line has the wall clock's time, the seconds since the kernel's start, the source and a colon.
//! Every file starts with the boot of its first line, and a line of the same form starts every
//! later boot. A service cannot forge these, because its output always follows a source.

use kiln_base::calendar::{Civil, Precision};

use super::stamp::Stamp;

/// The beginning of a line that names the boot of the lines after it.
pub const BOOT: &str = "-- boot ";

/// The length at which a service's line is cut. The rest becomes a line of its own.
pub const TEXT_MAX: usize = 16 * 1024;

/// A bound for all lines in a file: time, seconds, source and [`TEXT_MAX`].
pub const LINE_MAX: usize = TEXT_MAX + 256;

/// A line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The id of the boot of the lines after this one.
    Boot(&'a [u8]),
    /// A line of output.
    Text(Entry<'a>),
}

/// A line of output.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The time at which it was read from its source.
    pub stamp: Stamp,
    /// The stream's name, with a process id in brackets if there is one.
    pub source: &'a [u8],
    /// The text, without the end of the line.
    pub text: &'a [u8],
}

/// Returns the part of a line before the text.
#[must_use]
pub fn prefix(stamp: Stamp, source: &str) -> String {
    let time = Civil::from_micros(stamp.real).rfc3339(Precision::Micros);
    let (seconds, micros) = (stamp.monotonic / 1_000_000, stamp.monotonic % 1_000_000);
    format!("{time} {seconds}.{micros:06} {source}: ")
}

/// Parses a line without its newline. Returns `None` for bytes that no writer of Kiln wrote,
/// because a power cut leaves NULs and incomplete lines.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    if let Some(id) = line.strip_prefix(BOOT.as_bytes()) {
        return is_id(id).then_some(Line::Boot(id));
    }
    let (time, rest) = line.split_at_checked(Precision::Micros.text_len())?;
    let real = Civil::parse_rfc3339(time, Precision::Micros)?.micros()?;
    let (seconds, rest) = cut(rest.strip_prefix(b" ")?, b" ")?;
    let (source, text) = cut(rest, b": ")?;
    let monotonic = parse_seconds(seconds)?;
    Some(Line::Text(Entry { stamp: Stamp { real, monotonic }, source, text }))
}

/// True for a UUID in the kernel's form: 36 characters.
fn is_id(id: &[u8]) -> bool {
    id.len() == 36 && id.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Parses seconds with six digits after the point. Returns microseconds.
fn parse_seconds(text: &[u8]) -> Option<u64> {
    let (seconds, micros) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if micros.len() != 6 || !digits(seconds) || !digits(micros) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)
}

/// Returns the bytes before and after the first `separator`.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|part| part == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// Turns a service's output, in pieces of any size, into lines.
#[derive(Debug)]
pub struct Stamper {
    stream: &'static str,
    process: u32,
    /// The beginning of an incomplete line, and its time.
    open: Vec<u8>,
    since: Stamp,
}

impl Stamper {
    /// Returns a stamper for the output of a stream.
    #[must_use]
    pub const fn new(stream: &'static str) -> Self {
        Self { stream, process: 0, open: Vec::new(), since: Stamp { real: 0, monotonic: 0 } }
    }

    /// Appends the complete lines to `out`. An incomplete line is kept, up to [`TEXT_MAX`].
    pub fn feed(&mut self, bytes: &[u8], stamp: Stamp, process: u32, out: &mut Vec<u8>) {
        if process != self.process {
            self.flush(out);
            self.process = process;
        }
        // The prefix is made once for all lines of a piece, because they were read at the same
        // moment.
        let prefix = prefix(stamp, &self.source());
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            for part in piece.chunks(TEXT_MAX) {
                self.take(part, stamp, &prefix, out);
            }
        }
    }

    /// Takes at most [`TEXT_MAX`] bytes, with a newline only at their end.
    fn take(&mut self, part: &[u8], stamp: Stamp, prefix: &str, out: &mut Vec<u8>) {
        if self.open.len() + part.len() > TEXT_MAX {
            self.flush(out);
        }
        match part.strip_suffix(b"\n") {
            Some(rest) if self.open.is_empty() => {
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(rest);
                out.push(b'\n');
            }
            Some(rest) => {
                self.open.extend_from_slice(rest);
                self.flush(out);
            }
            None => {
                if self.open.is_empty() {
                    self.since = stamp;
                }
                self.open.extend_from_slice(part);
            }
        }
    }

    /// Appends a line about missing bytes.
    pub fn dropped(&mut self, bytes: u64, stamp: Stamp, out: &mut Vec<u8>) {
        self.flush(out);
        let prefix = prefix(stamp, &self.source());
        out.extend_from_slice(
            format!("{prefix}kiln: {bytes} bytes of output dropped here\n").as_bytes(),
        );
    }

    /// Ends an incomplete line.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.open.is_empty() {
            return;
        }
        out.extend_from_slice(prefix(self.since, &self.source()).as_bytes());
        out.append(&mut self.open);
        out.push(b'\n');
    }

    fn source(&self) -> String {
        match self.process {
            0 => self.stream.to_owned(),
            process => format!("{}[{process}]", self.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Entry, Line, Stamper, TEXT_MAX, parse, prefix};
    use crate::log::stamp::Stamp;

    const NOW: Stamp = Stamp { real: 1_795_272_180_123_456, monotonic: 12_345_678 };

    #[test]
    fn a_line_has_time_seconds_and_source() {
        let mut out = Vec::new();
        Stamper::new("kubelet").feed(b"a: b\n\n", NOW, 7, &mut out);
        let expected = "2026-11-21T14:43:00.123456Z 12.345678 kubelet[7]: a: b\n\
                        2026-11-21T14:43:00.123456Z 12.345678 kubelet[7]: \n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_incomplete_line_waits_for_its_end_or_for_that_of_its_process() {
        let mut stamper = Stamper::new("x");
        let mut out = Vec::new();
        stamper.feed(b"one, ", NOW, 1, &mut out);
        assert!(out.is_empty());
        stamper.feed(b"two\nthree", Stamp { real: 0, monotonic: 99 }, 1, &mut out);
        stamper.feed(b"four\n", NOW, 2, &mut out);
        let texts: Vec<_> = out.split(|&byte| byte == b'\n').filter_map(parse).collect();
        let text = |stamp, source, text| Line::Text(Entry { stamp, source, text });
        let late = Stamp { real: 0, monotonic: 99 };
        let expected = [
            text(NOW, b"x[1]", b"one, two"),
            text(late, b"x[1]", b"three"),
            text(NOW, b"x[2]", b"four"),
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn missing_bytes_are_reported_on_a_line_of_their_own() {
        let mut stamper = Stamper::new("x");
        let mut out = Vec::new();
        stamper.feed(b"half", NOW, 1, &mut out);
        stamper.dropped(5, NOW, &mut out);
        let text = String::from_utf8(out).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().unwrap().ends_with(": half"));
        assert!(lines.next().unwrap().ends_with(": kiln: 5 bytes of output dropped here"));
    }

    #[test]
    fn a_forged_boot_line_is_ordinary_text() {
        let mut out = Vec::new();
        let forged = b"-- boot 0b7b2f5c-6a3d-4c3e-9d0a-0d2f5a3f1e11\n";
        Stamper::new("x").feed(forged, NOW, 1, &mut out);
        assert!(matches!(parse(out.strip_suffix(b"\n").unwrap()), Some(Line::Text(_))));
        assert!(matches!(parse(forged.strip_suffix(b"\n").unwrap()), Some(Line::Boot(_))));
    }

    #[test]
    fn bytes_that_no_writer_wrote_are_not_a_line() {
        for line in [
            &b""[..],
            b"\0\0\0\0",
            b"-- boot x",
            b"2026-11-21T14:43:00.123456Z",
            b"2026-11-21T14:43:00.123456Z 12.345678 half",
            b"2026-11-21T14:43:00.123456Z +2.345678 x: y",
            b"2026-11-21T14:43:00.123456Z 2.34567 x: y",
            b"2026-11-21T14:43:00.123456Z 99999999999999999999.000000 x: y",
        ] {
            assert_eq!(parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was_written(
            real in 0_i64..253_402_300_800_000_000,
            monotonic in 0_u64..u64::MAX / 2,
            text in "[^\n]{0,50}",
        ) {
            let stamp = Stamp { real, monotonic };
            let line = format!("{}{text}", prefix(stamp, "kubelet[1]"));
            let entry = Entry { stamp, source: b"kubelet[1]", text: text.as_bytes() };
            prop_assert_eq!(parse(line.as_bytes()), Some(Line::Text(entry)));
        }

        #[test]
        fn a_line_that_is_read_is_written_the_same(
            line in "202[0-9]-0[1-9]-1[0-9]T1[0-9]:00:00\\.[0-9]{6}Z [0-9]{1,5}\\.[0-9]{5,7} [a-z]{1,5}: [ -~]{0,20}",
        ) {
            if let Some(Line::Text(entry)) = parse(line.as_bytes()) {
                let source = std::str::from_utf8(entry.source).unwrap();
                let text = std::str::from_utf8(entry.text).unwrap();
                let seconds = line.split(' ').nth(1).unwrap().trim_start_matches('0');
                let written = prefix(entry.stamp, source) + text;
                prop_assert!(written.contains(seconds));
                prop_assert_eq!(parse(written.as_bytes()), Some(Line::Text(entry)));
            }
        }

        /// The size of pieces changes no text, and every line can be parsed.
        #[test]
        fn pieces_do_not_change_the_lines(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..300),
            size in 1_usize..20,
        ) {
            let mut stamper = Stamper::new("x");
            let mut out = Vec::new();
            for piece in bytes.chunks(size) {
                stamper.feed(piece, NOW, 1, &mut out);
            }
            stamper.flush(&mut out);
            let mut expected: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
            expected.pop_if(|last| last.is_empty());
            let lines: Vec<_> = out.split_inclusive(|&byte| byte == b'\n').collect();
            prop_assert_eq!(lines.len(), expected.len());
            for (line, text) in lines.into_iter().zip(expected) {
                let entry = Entry { stamp: NOW, source: b"x[1]", text };
                prop_assert_eq!(parse(line.strip_suffix(b"\n").unwrap()), Some(Line::Text(entry)));
            }
        }

        #[test]
        fn no_line_exceeds_its_limit(size in 0_usize..5 * TEXT_MAX, cut in 1_usize..30_000) {
            let mut stamper = Stamper::new("x");
            let mut out = Vec::new();
            let bytes = vec![b'a'; size];
            for piece in bytes.chunks(cut) {
                stamper.feed(piece, NOW, 1, &mut out);
            }
            stamper.flush(&mut out);
            let lengths = out.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::len);
            prop_assert!(lengths.max().unwrap_or(0) <= super::LINE_MAX);
        }
    }
}
