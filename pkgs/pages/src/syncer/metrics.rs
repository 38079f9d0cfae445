//! Numbers for Prometheus. No label names a site, so their number does not grow with the cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_server::ops::{self, Kind};

/// The upper bounds of a histogram's buckets, in milliseconds.
const BUCKETS: [u64; 11] = [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000];

/// Counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Fetches that found no new commit.
    pub unchanged: AtomicU64,
    /// Fetches that published a revision.
    pub published: AtomicU64,
    /// Fetches that failed.
    pub failed: AtomicU64,
    /// Failures by reason, of which there are few.
    reasons: Mutex<BTreeMap<&'static str, u64>>,
    /// The times of fetches.
    pub fetching: Histogram,
    /// The times of making and storing packs.
    pub publishing: Histogram,
    /// The bytes of published packs.
    pub bytes: AtomicU64,
    /// Deliveries of webhooks that were accepted.
    pub webhooks: AtomicU64,
    /// Deliveries of webhooks and requests that were refused.
    pub refused: AtomicU64,
    /// Packs that were collected.
    pub collected: AtomicU64,
}

/// Times by their length.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The numbers of times up to each bound, without those up to an earlier one; the last are longer.
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Adds a time.
    pub fn add(&self, time: Duration) {
        let place = BUCKETS.partition_point(|bound| Duration::from_millis(*bound) < time);
        add(&self.counts[place], 1);
        add(&self.micros, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn write(&self, text: &mut ops::Metrics, name: &str, help: &str) {
        text.begin(name, Kind::Histogram, help);
        let mut sum = 0;
        let bounds = BUCKETS.map(seconds).into_iter().chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&self.counts) {
            sum += get(count);
            text.sample(&format!("{name}_bucket"), &[("le", &bound)], sum);
        }
        let micros = get(&self.micros);
        let total = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        text.sample(&format!("{name}_sum"), &[], total);
        text.sample(&format!("{name}_count"), &[], sum);
    }
}

/// Returns milliseconds as seconds.
fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    /// Counts a failure.
    pub fn fails(&self, reason: &'static str) {
        add(&self.failed, 1);
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason).or_default() += 1;
    }
}

/// Numbers of sites and of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sites {
    /// All sites.
    pub known: usize,
    /// Sites and previews in the table for servers.
    pub served: usize,
    /// Sites with a fetch that runs.
    pub fetching: usize,
    /// Sites that are due and wait.
    pub waiting: usize,
    /// The longest wait of such a site.
    pub lag: Duration,
    /// Sites with previews.
    pub previewed: usize,
    /// Looks at references that run.
    pub looking: usize,
    /// Previews that have a revision.
    pub previews: usize,
    /// Bytes that git servers have sent.
    pub received: u64,
}

/// Returns all numbers in the text format.
#[must_use]
pub fn text(counters: &Metrics, sites: Sites) -> String {
    let mut text = ops::Metrics::new("kiln_pages_syncer_");
    text.begin("fetches_total", Kind::Counter, "Fetches of sites by result");
    for (result, counter) in [
        ("unchanged", &counters.unchanged),
        ("published", &counters.published),
        ("failed", &counters.failed),
    ] {
        text.sample("fetches_total", &[("result", result)], get(counter));
    }
    {
        let reasons = counters.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if !reasons.is_empty() {
            text.begin("failures_total", Kind::Counter, "Failed fetches of sites by reason");
        }
        for (reason, count) in reasons.iter() {
            text.sample("failures_total", &[("reason", reason)], count);
        }
    }
    counters.fetching.write(&mut text, "fetch_seconds", "Times of fetches, with those of previews");
    counters.publishing.write(&mut text, "publish_seconds", "Times of making and storing packs");
    let counter = Kind::Counter;
    text.add("fetched_bytes_total", counter, "Bytes from git servers", sites.received);
    text.add("published_bytes_total", counter, "Bytes of published packs", get(&counters.bytes));
    text.begin("requests_total", counter, "Webhooks, requests and uploads by result");
    text.sample("requests_total", &[("result", "accepted")], get(&counters.webhooks));
    text.sample("requests_total", &[("result", "refused")], get(&counters.refused));
    text.add("collected_packs_total", counter, "Packs that were removed", get(&counters.collected));
    text.begin("sites", Kind::Gauge, "Sites by state; served ones include previews");
    for (state, count) in [
        ("known", sites.known),
        ("served", sites.served),
        ("fetching", sites.fetching),
        ("waiting", sites.waiting),
    ] {
        text.sample("sites", &[("state", state)], count);
    }
    let lag = seconds(u64::try_from(sites.lag.as_millis()).unwrap_or(u64::MAX));
    text.begin("queue_lag_seconds", Kind::Gauge, "The longest wait of a site that is due");
    text.sample("queue_lag_seconds", &[], lag);
    text.add("previews", Kind::Gauge, "Previews with a revision", sites.previews as u64);
    text.begin("previewed_sites", Kind::Gauge, "Sites with previews by state");
    text.sample("previewed_sites", &[("state", "known")], sites.previewed);
    text.sample("previewed_sites", &[("state", "looking")], sites.looking);
    text.into_text()
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Sites, add, text};
    use kiln_test_support::exposition;
    use std::time::Duration;

    #[test]
    fn the_text_keeps_the_rules_and_the_manual_names_all_metrics() {
        let metrics = Metrics::default();
        exposition::check(&text(&metrics, Sites::default()));
        add(&metrics.published, 3);
        metrics.fails("TimedOut");
        metrics.fails("TimedOut");
        for millis in [1, 50, 51, 200_000] {
            metrics.fetching.add(Duration::from_millis(millis));
        }
        let sites = Sites { known: 4, lag: Duration::from_millis(1500), ..Sites::default() };
        let text = text(&metrics, sites);
        let manual = include_str!("../../../../docs/pages.md");
        for name in exposition::check(&text) {
            assert!(manual.contains(&format!("`{name}`")), "docs/pages.md lacks {name}");
        }
        for line in [
            "fetches_total{result=\"published\"} 3",
            "failures_total{reason=\"TimedOut\"} 2",
            "fetch_seconds_bucket{le=\"0.050\"} 2",
            "fetch_seconds_bucket{le=\"0.100\"} 3",
            "fetch_seconds_bucket{le=\"120.000\"} 3",
            "fetch_seconds_bucket{le=\"+Inf\"} 4",
            "fetch_seconds_sum 200.102000",
            "sites{state=\"known\"} 4",
            "queue_lag_seconds 1.500",
        ] {
            assert!(text.contains(&format!("\nkiln_pages_syncer_{line}\n")), "{line}: {text}");
        }
    }
}
