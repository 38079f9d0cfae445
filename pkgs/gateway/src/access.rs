//! The access log: one line of JSON per connection on standard output.
//!
//! A separate thread writes, because a pipe whose reader is slow would stop a worker. A bounded queue
//! feeds the thread; lines that do not fit are dropped and counted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use kiln_base::calendar::{Civil, Precision};
use kiln_base::json;

/// The most lines that wait.
const QUEUE_MAX: usize = 1024;

/// Bytes of the thread's stack.
const STACK: usize = 64 << 10;

/// The queue of lines to be written.
#[derive(Debug, Clone)]
pub struct Access {
    queue: SyncSender<String>,
}

impl Access {
    /// Starts the thread.
    pub fn start() -> anyhow::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_MAX);
        kiln_server::threads::spawn("access", STACK, move || write(&lines))?;
        Ok(Self { queue })
    }

    /// Queues a line; false if the queue is full.
    #[must_use]
    pub fn line(&self, line: String) -> bool {
        self.queue.try_send(line).is_ok()
    }
}

fn write(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        // If standard output is gone, there is no place to report it.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}

/// The facts about a connection that has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The client, as the PROXY header has it if one came.
    pub client: SocketAddr,
    /// The first name that the client asked for.
    pub name: Option<&'a str>,
    /// The route's label.
    pub route: Option<&'a str>,
    /// The last backend that was tried.
    pub backend: Option<&'a str>,
    /// Bytes from the client to the backend.
    pub up: u64,
    /// Bytes from the backend to the client.
    pub down: u64,
    /// Milliseconds from accept to end.
    pub millis: u64,
    /// The reason why the connection ended.
    pub end: &'a str,
}

impl Record<'_> {
    /// Formats the record as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut out = String::with_capacity(256);
        let time = Civil::now().rfc3339(Precision::Millis);
        // Writing to a String cannot fail.
        let _ = write!(out, "{{\"time\":\"{time}\",\"client\":\"{}\"", self.client);
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
                json::string(&mut out, value);
            }
        }
        let Self { up, down, millis, .. } = self;
        let _ = writeln!(out, ",\"up\":{up},\"down\":{down},\"ms\":{millis}}}");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_is_one_line_whatever_the_client_sent() {
        let record = Record {
            listener: "https",
            client: "10.0.0.1:5".parse().unwrap(),
            name: Some("a\n\"test"),
            route: None,
            backend: None,
            up: 1,
            down: 2,
            millis: 3,
            end: "done",
        };
        let line = record.line();
        assert!(line.ends_with(",\"client\":\"10.0.0.1:5\",\"listener\":\"https\",\"name\":\"a\\u000a\\\"test\",\"end\":\"done\",\"up\":1,\"down\":2,\"ms\":3}\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
