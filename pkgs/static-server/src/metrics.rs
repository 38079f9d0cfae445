//! The counters of the server as metrics for Prometheus.

use std::sync::atomic::Ordering;

use kiln_server::ops::{Kind, Metrics};

use crate::shared::{Counters, Shared};

/// The beginning of every metric's name.
const PREFIX: &str = "kiln_web_";

/// Reads one figure of a worker.
type Figure = fn(&Counters) -> u64;

impl Shared {
    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut metrics = Metrics::new(PREFIX);
        self.about_content(&mut metrics);
        self.about_work(&mut metrics);
        metrics.begin("answers_total", Kind::Counter, "Answers by status");
        for class in 0..5 {
            let count = self.sum(|counters| counters.answers[class].get());
            metrics.sample("answers_total", &[("code", &format!("{}xx", class + 1))], count);
        }
        metrics.into_text()
    }

    fn about_content(&self, metrics: &mut Metrics) {
        let (_, state) = self.state();
        let bytes: u64 = state.content.sites().map(|site| site.content_bytes()).sum();
        let paths: usize = state.content.sites().map(|site| site.entries.len()).sum();
        let failed = self.failed_reloads.load(Ordering::Relaxed);
        let ready = u64::from(self.is_ready());
        metrics.add("ready", Kind::Gauge, "1 while all content could be read", ready);
        metrics.add("paths", Kind::Gauge, "Paths in the index", paths as u64);
        metrics.add("content_bytes", Kind::Gauge, "Bytes of content in memory", bytes);
        metrics.add("generation", Kind::Counter, "Indexes that were built", self.generation());
        let help = "Indexes and settings that could not be loaded";
        metrics.add("failed_reloads_total", Kind::Counter, help, failed);
    }

    fn about_work(&self, metrics: &mut Metrics) {
        let dropped = self.log.as_ref().map_or(0, |log| log.dropped());
        let counters: [(&str, &str, Figure); 4] = [
            ("accepted_total", "Accepted connections", |c| c.accepted.get()),
            ("evicted_total", "Connections closed to make room for others", |c| c.evicted.get()),
            ("cut_total", "Answers that were cut", |c| c.cut.get()),
            ("sent_bytes_total", "Bytes of answers", |c| c.bytes.get()),
        ];
        let open = self.sum(|counters| counters.open.get());
        metrics.add("connections", Kind::Gauge, "Open connections", open);
        for (name, help, of) in counters {
            metrics.add(name, Kind::Counter, help, self.sum(of));
        }
        let help = "Dropped lines of the access log";
        metrics.add("log_dropped_total", Kind::Counter, help, dropped);
    }

    /// Returns the sum of a counter over all workers.
    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(of).sum()
    }
}
