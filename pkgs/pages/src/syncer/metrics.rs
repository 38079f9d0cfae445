//! Numbers for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Fetches that found no new commit.
    pub unchanged: AtomicU64,
    /// Fetches that published a revision.
    pub published: AtomicU64,
    /// Fetches that failed.
    pub failed: AtomicU64,
    /// The bytes of published packs.
    pub bytes: AtomicU64,
    /// Deliveries of webhooks that were accepted.
    pub webhooks: AtomicU64,
    /// Deliveries of webhooks and requests that were refused.
    pub refused: AtomicU64,
    /// Packs that were collected.
    pub collected: AtomicU64,
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Numbers of sites.
#[derive(Debug, Clone, Copy)]
pub struct Sites {
    /// All sites.
    pub known: usize,
    /// Those in the table for servers.
    pub served: usize,
    /// Those with a fetch that runs.
    pub fetching: usize,
    /// Those that are due and wait.
    pub waiting: usize,
}

/// Returns all numbers in the text format.
#[must_use]
pub fn text(counters: &Metrics, sites: Sites) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, values: &[(&str, u64)]| {
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let fetches = [
        ("{result=\"unchanged\"}", get(&counters.unchanged)),
        ("{result=\"published\"}", get(&counters.published)),
        ("{result=\"failed\"}", get(&counters.failed)),
    ];
    family("pages_fetches_total", "counter", &fetches);
    family("pages_published_bytes_total", "counter", &[("", get(&counters.bytes))]);
    let deliveries = [
        ("{result=\"accepted\"}", get(&counters.webhooks)),
        ("{result=\"refused\"}", get(&counters.refused)),
    ];
    family("pages_requests_total", "counter", &deliveries);
    family("pages_collected_packs_total", "counter", &[("", get(&counters.collected))]);
    let sites = [
        ("{state=\"known\"}", sites.known as u64),
        ("{state=\"served\"}", sites.served as u64),
        ("{state=\"fetching\"}", sites.fetching as u64),
        ("{state=\"waiting\"}", sites.waiting as u64),
    ];
    family("pages_sites", "gauge", &sites);
    text
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Sites, add, text};

    #[test]
    fn every_family_has_its_type() {
        let metrics = Metrics::default();
        add(&metrics.published, 3);
        let sites = Sites { known: 4, served: 3, fetching: 2, waiting: 1 };
        let text = text(&metrics, sites);
        assert!(text.contains("pages_fetches_total{result=\"published\"} 3\n"));
        assert!(text.contains("# TYPE pages_sites gauge\npages_sites{state=\"known\"} 4\n"));
        let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(families, 5);
    }
}
