//! The state that the operations port shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_server::ops::{Kind, Metrics};

use kiln_controller::operations::State;

/// Counters and states. One thread writes them.
#[derive(Debug, Default)]
pub struct Status {
    is_leader: AtomicBool,
    is_complete: AtomicBool,
    passes: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
    objects: AtomicU64,
    sites: Mutex<BTreeMap<&'static str, u64>>,
    fault: Mutex<Option<String>>,
}

impl Status {
    /// Records that this replica leads.
    pub fn leads(&self) {
        self.is_leader.store(true, Ordering::Relaxed);
    }

    /// Records that all lists are known.
    pub fn complete(&self) {
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// Records a pass over all sites: the number of sites by the reason of their condition, and of
    /// objects.
    pub fn passed(&self, sites: BTreeMap<&'static str, u64>, objects: usize) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.objects.store(objects as u64, Ordering::Relaxed);
        *self.sites.lock().unwrap_or_else(PoisonError::into_inner) = sites;
    }

    /// Counts a write to the API server.
    pub fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a failed call. A fault is logged once, and again when one with another cause follows.
    pub fn fails(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let cause = format!("{error:#}");
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.as_ref() != Some(&cause) {
            tracing::warn!("{cause}; retrying");
            *fault = Some(cause);
        }
    }

    /// Records that a pass or a watch worked.
    pub fn works(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl State for Status {
    /// A replica that does not lead is ready, too: it waits for its turn.
    fn is_ready(&self) -> bool {
        !self.is_leader.load(Ordering::Relaxed) || self.is_complete.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> String {
        let mut metrics = Metrics::new("kiln_pages_operator_");
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let leads = u64::from(self.is_leader.load(Ordering::Relaxed));
        metrics.add("leader", Kind::Gauge, "1 for the replica that leads", leads);
        metrics.begin("sites", Kind::Gauge, "Sites by the reason of their condition Routed");
        for (reason, count) in self.sites.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            metrics.sample("sites", &[("reason", reason)], *count);
        }
        metrics.add("objects", Kind::Gauge, "Routes and certificates", number(&self.objects));
        metrics.add("passes_total", Kind::Counter, "Passes over all sites", number(&self.passes));
        metrics.add(
            "writes_total",
            Kind::Counter,
            "Writes to the API server",
            number(&self.writes),
        );
        metrics.add("errors_total", Kind::Counter, "Failed calls", number(&self.errors));
        metrics.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::Status;
    use kiln_controller::operations::State as _;
    use kiln_test_support::exposition;
    use std::collections::BTreeMap;

    #[test]
    fn the_text_keeps_the_rules_and_the_manual_names_all_metrics() {
        let status = Status::default();
        status.passed(BTreeMap::from([("Routed", 3), ("HostTaken", 1)]), 4);
        let text = status.metrics();
        let manual = include_str!("../../../../docs/pages.md");
        for name in exposition::check(&text) {
            assert!(manual.contains(&format!("`{name}`")), "docs/pages.md lacks {name}");
        }
        assert!(text.contains("kiln_pages_operator_sites{reason=\"HostTaken\"} 1\n"), "{text}");
    }
}
