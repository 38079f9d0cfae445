//! The operations port: liveness, readiness, and metrics for Prometheus.
//!
//! This module makes the texts; each server has its own sockets.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// The answer to a request to the operations port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Code and reason as in the status line.
    pub status: &'static str,
    /// The body.
    pub text: Cow<'static, str>,
}

/// Returns the answer to a GET; `None` for an unknown path.
///
/// `/live` and `/health` are a 200 as long as the process answers at all; `/ready` is a 503 while
/// clients should use another server.
pub fn page(path: &[u8], is_ready: bool, metrics: impl FnOnce() -> String) -> Option<Page> {
    let page = |status, text| Some(Page { status, text });
    match path {
        b"/live" | b"/health" => page("200 OK", "ok\n".into()),
        b"/ready" if is_ready => page("200 OK", "ok\n".into()),
        b"/ready" => page("503 Service Unavailable", "not ready\n".into()),
        b"/metrics" => page("200 OK", metrics().into()),
        _ => None,
    }
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by their size.
    Histogram,
}

/// Metrics in Prometheus' text format, version 0.0.4.
#[derive(Debug)]
pub struct Metrics {
    prefix: &'static str,
    text: String,
}

impl Metrics {
    /// Creates an empty set of metrics, whose names begin with `prefix`.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// Begins a metric; its samples must follow.
    pub fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let prefix = self.prefix;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}");
    }

    /// Adds a sample to the metric that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.prefix);
        self.text.push_str(name);
        for (index, (key, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(key);
            self.label(value);
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// Adds a metric with one sample and no labels.
    pub fn add(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.begin(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Writes `="VALUE"` with backslash, quotation mark and line feed escaped.
    fn label(&mut self, value: &str) {
        self.text.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }

    /// Returns the whole text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Metrics, page};

    #[test]
    fn only_readiness_depends_on_the_server() {
        let status = |path: &str, is_ready| {
            page(path.as_bytes(), is_ready, || "x 1\n".to_owned()).map(|page| page.status)
        };
        for is_ready in [true, false] {
            assert_eq!(status("/live", is_ready), Some("200 OK"));
            assert_eq!(status("/health", is_ready), Some("200 OK"));
            assert_eq!(status("/metrics", is_ready), Some("200 OK"));
            assert_eq!(status("/", is_ready), None);
        }
        assert_eq!(status("/ready", true), Some("200 OK"));
        assert_eq!(status("/ready", false), Some("503 Service Unavailable"));
    }

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let mut metrics = Metrics::new("kiln_test_");
        metrics.add("open", Kind::Gauge, "Open connections", 3);
        metrics.begin("answers_total", Kind::Counter, "Answers");
        metrics.sample("answers_total", &[("code", "2xx"), ("name", "a\"\\\n")], 7);
        assert_eq!(
            metrics.into_text(),
            "# HELP kiln_test_open Open connections\n# TYPE kiln_test_open gauge\n\
             kiln_test_open 3\n\
             # HELP kiln_test_answers_total Answers\n# TYPE kiln_test_answers_total counter\n\
             kiln_test_answers_total{code=\"2xx\",name=\"a\\\"\\\\\\n\"} 7\n"
        );
    }
}
