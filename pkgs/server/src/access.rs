//! The access log: one JSON object per line on standard output.
//!
//! A separate thread writes the log, because a pipe that is not read would block a worker. Lines
//! wait in a bounded buffer; lines that do not fit are dropped and counted.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use kiln_base::calendar::{Civil, Precision};
use kiln_base::json;

use crate::threads::spawn;

/// The most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// The most bytes of a client's text in a line.
const TEXT_BYTES_MAX: usize = 2048;

/// Bytes of the writing thread's stack.
const STACK: usize = 64 << 10;

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub struct AccessLog {
    lines: Mutex<Vec<u8>>,
    news: Condvar,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Starts the thread that writes.
    pub fn start() -> anyhow::Result<Arc<Self>> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        spawn("access-log", STACK, move || writer.write())?;
        Ok(log)
    }

    /// Adds a line, which ends with a line feed, or drops it. Never waits for the output.
    pub fn push(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() + line.len() > WAITING_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.extend_from_slice(line.as_bytes());
        drop(lines);
        self.news.notify_one();
    }

    /// Returns the number of lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes lines forever.
    fn write(&self) -> ! {
        loop {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            while lines.is_empty() {
                lines = self.news.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            let batch = std::mem::take(&mut *lines);
            drop(lines);
            // An error of standard output cannot be reported anywhere.
            let _ = std::io::stdout().lock().write_all(&batch);
        }
    }
}

/// The members of a JSON object, in the order in which they were added.
///
/// Keys are written as they are; texts are escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members(String);

impl Members {
    /// Starts a line with the members that every line has: the time and the client.
    ///
    /// `client` is an address with its port, or empty for a client on a Unix socket.
    #[must_use]
    pub fn of(time: Civil, client: &str) -> Self {
        let mut members = Self(String::with_capacity(256));
        members.text("time", &time.rfc3339(Precision::Millis).to_string());
        members.text("client", client);
        members
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        json::string(&mut self.0, value);
    }

    /// Adds bytes that a client sent, cut after 2048 bytes.
    pub fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        json::bytes(&mut self.0, &value[..value.len().min(TEXT_BYTES_MAX)]);
    }

    /// Adds a number.
    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.push_str(&value.to_string());
    }

    /// Adds a member without a value.
    pub fn null(&mut self, key: &str) {
        self.key(key);
        self.0.push_str("null");
    }

    /// Adds the members of another object.
    pub fn append(&mut self, other: &Self) {
        if !self.0.is_empty() && !other.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&other.0);
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    /// Returns the object as a line.
    #[must_use]
    pub fn line(&self) -> String {
        ["{", &self.0, "}\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessLog, Civil, Members, TEXT_BYTES_MAX, WAITING_BYTES_MAX};

    #[test]
    fn a_line_is_one_json_object_whatever_the_client_sent() {
        let mut request = Members::default();
        request.bytes("request", b"GET /a?\"\\ \x1b[0m\n\xe4 HTTP/1.1");
        request.null("host");
        let mut members = Members::of(Civil::from_seconds(0), "[::1]:5");
        members.append(&request);
        members.text("name", "\u{1F600}");
        members.number("bytes", 7);
        assert_eq!(
            members.line(),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"client\":\"[::1]:5\",\
             \"request\":\"GET /a?\\\"\\\\ \\u001b[0m\\u000a\\u00e4 HTTP/1.1\",\"host\":null,\
             \"name\":\"\\ud83d\\ude00\",\"bytes\":7}\n"
        );
    }

    #[test]
    fn a_clients_text_is_cut() {
        let mut members = Members::default();
        members.bytes("a", &[b'x'; 5000]);
        assert_eq!(members.line().len(), "{\"a\":\"\"}\n".len() + TEXT_BYTES_MAX);
    }

    #[test]
    fn lines_that_do_not_fit_are_dropped_and_counted() {
        let log = AccessLog::default();
        let line = "x".repeat(WAITING_BYTES_MAX / 2);
        for _ in 0..3 {
            log.push(&line);
        }
        assert_eq!(log.dropped(), 1);
    }
}
