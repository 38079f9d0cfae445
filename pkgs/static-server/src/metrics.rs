//! What the program has done, as Prometheus reads it (text format 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crate::shared::{Counters, Shared};

/// A figure: name, type, meaning, value.
type Figure = (&'static str, &'static str, &'static str, u64);

impl Shared {
    /// All metrics.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (name, kind, help, value) in self.about_content().into_iter().chain(self.about_work()) {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "kiln_web_{name} {value}");
        }
        head(&mut text, "answers_total", "counter", "Answers by status");
        for class in 0..5 {
            let count = self.sum(|counters| counters.answers[class].get());
            let _ = writeln!(text, "kiln_web_answers_total{{code=\"{}xx\"}} {count}", class + 1);
        }
        text
    }

    fn about_content(&self) -> [Figure; 5] {
        let (_, state) = self.state();
        let bytes: u64 = state.content.sites().map(|site| site.content_bytes()).sum();
        let paths: usize = state.content.sites().map(|site| site.entries.len()).sum();
        let failed = self.failed_reloads.load(Ordering::Relaxed);
        [
            ("ready", "gauge", "1 while all content could be read", u64::from(self.is_ready())),
            ("paths", "gauge", "Paths in the index", paths as u64),
            ("content_bytes", "gauge", "Bytes of content in memory", bytes),
            ("generation", "counter", "Indexes that were made", self.generation()),
            (
                "failed_reloads_total",
                "counter",
                "Indexes and settings that could not be made",
                failed,
            ),
        ]
    }

    fn about_work(&self) -> [Figure; 6] {
        let dropped = self.log.as_ref().map_or(0, |log| log.dropped());
        let sum = |of: fn(&Counters) -> u64| self.sum(of);
        [
            ("connections", "gauge", "Open connections", sum(|c| c.open.get())),
            ("accepted_total", "counter", "Accepted connections", sum(|c| c.accepted.get())),
            ("evicted_total", "counter", "Connections closed for others", sum(|c| c.evicted.get())),
            ("cut_total", "counter", "Answers that were cut", sum(|c| c.cut.get())),
            ("sent_bytes_total", "counter", "Bytes of answers", sum(|c| c.bytes.get())),
            ("log_dropped_total", "counter", "Lines of the access log lost", dropped),
        ]
    }

    /// The sum of all workers' counters.
    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(of).sum()
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP kiln_web_{name} {help}\n# TYPE kiln_web_{name} {kind}\n");
}
