//! A connection's line in the access log.

use std::net::SocketAddr;

use kiln_base::calendar::Civil;
use kiln_server::access::Members;

/// The facts about a connection that has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The client's address, taken from the PROXY header if there is one.
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
        let mut members = Members::of(Civil::now(), &self.client.to_string());
        let texts = [
            ("listener", Some(self.listener)),
            ("name", self.name),
            ("route", self.route),
            ("backend", self.backend),
            ("end", Some(self.end)),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                members.text(key, text);
            }
        }
        members.number("up", self.up);
        members.number("down", self.down);
        members.number("ms", self.millis);
        members.line()
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_has_the_known_facts_in_a_fixed_order() {
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
    }
}
