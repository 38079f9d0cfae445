//! The access log: one JSON object on a line of standard output for each answer.
//!
//! Writing never holds up an answer: lines go into a bounded buffer, a thread of its own writes
//! them, and what does not fit is dropped and counted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use kiln_daemon::rfc3339::Utc;

use crate::request::Head;

/// Most bytes that wait to be written.
const LIMIT: usize = 256 << 10;

/// Most bytes of a client's text in a line.
const TEXT_LIMIT: usize = 2048;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct AccessLog {
    lines: Mutex<Vec<u8>>,
    news: Condvar,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Adds a line, or drops it.
    pub fn push(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() + line.len() > LIMIT {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.extend_from_slice(line.as_bytes());
        drop(lines);
        self.news.notify_one();
    }

    /// Lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes lines for ever.
    pub fn write(&self) -> ! {
        loop {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            while lines.is_empty() {
                lines = self.news.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            let batch = std::mem::take(&mut *lines);
            drop(lines);
            // Nowhere is left to report that the output is gone.
            let _ = std::io::stdout().lock().write_all(&batch);
        }
    }
}

/// What a line says about a request.
#[must_use]
pub fn request(head: &Head<'_>) -> String {
    let mut text = String::from("\"request\":");
    quote(&mut text, head.line);
    text.push_str(",\"host\":");
    quote(&mut text, head.host());
    text
}

/// The same for bytes that are no request.
#[must_use]
pub fn no_request() -> String {
    String::from("\"request\":null,\"host\":null")
}

/// A whole line.
#[must_use]
pub fn line(now: Utc, client: &str, request: &str, status: u16, bytes: u64) -> String {
    format!(
        "{{\"time\":\"{now}\",\"client\":\"{client}\",{request},\"status\":{status},\"bytes\":{bytes}}}\n"
    )
}

/// Appends bytes as a JSON string: what is not visible ASCII is escaped, bytes that are not text
/// as the characters of the same numbers.
fn quote(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for byte in bytes.iter().take(TEXT_LIMIT) {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "\\u{:04x}", *byte)),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::{AccessLog, LIMIT, line, quote, request};
    use crate::request::parse;
    use kiln_daemon::rfc3339::Utc;
    use std::time::Duration;

    #[test]
    fn a_line_is_one_json_object_whatever_the_client_sent() {
        let head = b"GET /a?\"\\ HTTP/1.1\r\nHost: A\r\n\r\n";
        let (head, _) = parse(head, 99).unwrap().unwrap();
        let text = line(Utc::since_epoch(Duration::ZERO), "::1", &request(&head), 200, 7);
        assert_eq!(
            text,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"client\":\"::1\",\
             \"request\":\"GET /a?\\\"\\\\ HTTP/1.1\",\"host\":\"A\",\"status\":200,\"bytes\":7}\n"
        );
        let mut text = String::new();
        quote(&mut text, b"\x1b[0m\n\xe4");
        assert_eq!(text, "\"\\u001b[0m\\u000a\\u00e4\"");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let log = AccessLog::default();
        let line = "x".repeat(LIMIT / 2);
        for _ in 0..3 {
            log.push(&line);
        }
        assert_eq!(log.dropped(), 1);
    }
}
