//! The access log: one line of JSON per connection on standard output.
//!
//! A thread of its own writes, since a pipe that nobody reads would stop a worker. It is behind a
//! bounded queue: what does not fit is dropped and counted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use kiln_daemon::rfc3339::Utc;

/// Lines that may wait.
const QUEUE: usize = 1024;

/// Where lines go.
#[derive(Debug, Clone)]
pub struct Access {
    queue: SyncSender<String>,
}

impl Access {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access".into())
            .stack_size(64 << 10)
            .spawn(move || write(&lines))?;
        Ok(Self { queue })
    }

    /// Writes a line sometime; false if the queue is full.
    #[must_use]
    pub fn line(&self, line: String) -> bool {
        self.queue.try_send(line).is_ok()
    }
}

fn write(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        // Nowhere is left to report that standard output is gone.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}

/// What is said of a connection that has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The client, by PROXY header if one came.
    pub client: std::net::SocketAddr,
    /// The name that it asked for.
    pub name: Option<&'a str>,
    /// The route's label.
    pub route: Option<&'a str>,
    /// The backend, if one was reached.
    pub backend: Option<&'a str>,
    /// Bytes from the client to the backend.
    pub up: u64,
    /// Bytes from the backend to the client.
    pub down: u64,
    /// Milliseconds from accept to end.
    pub millis: u64,
    /// Why it ended.
    pub end: &'a str,
}

impl Record<'_> {
    /// As a line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut out = String::with_capacity(256);
        // Writing to a String cannot fail.
        let _ = write!(out, "{{\"time\":\"{}\",\"client\":\"{}\"", Utc::now(), self.client);
        let fields = [
            ("listener", Some(self.listener)),
            ("name", self.name),
            ("route", self.route),
            ("backend", self.backend),
            ("end", Some(self.end)),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                let _ = write!(out, ",\"{key}\":");
                string(value, &mut out);
            }
        }
        let Self { up, down, millis, .. } = self;
        let _ = writeln!(out, ",\"up\":{up},\"down\":{down},\"ms\":{millis}}}");
        out
    }
}

/// A string of JSON (RFC 8259 section 7). What is not ASCII is escaped too, so that no terminal
/// does what a client wants.
pub fn string(text: &str, out: &mut String) {
    out.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\')) => {
                out.push('\\');
                out.push(char::from(byte));
            }
            Ok(byte @ b' '..=b'~') => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::{Record, string};

    #[test]
    fn text_of_clients_cannot_break_out() {
        let mut out = String::new();
        string("a\"\\\n\u{1b}[2J\u{e4}\u{1F600}", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\u000a\\u001b[2J\\u00e4\\ud83d\\ude00\"");
    }

    #[test]
    fn a_record_is_one_line() {
        let record = Record {
            listener: "https",
            client: "10.0.0.1:5".parse().unwrap(),
            name: Some("a.test"),
            route: None,
            backend: None,
            up: 1,
            down: 2,
            millis: 3,
            end: "done",
        };
        let line = record.line();
        assert!(line.ends_with(",\"client\":\"10.0.0.1:5\",\"listener\":\"https\",\"name\":\"a.test\",\"end\":\"done\",\"up\":1,\"down\":2,\"ms\":3}\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
