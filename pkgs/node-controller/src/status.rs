//! The state that the operations port shows, and the log lines about the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_controller::operations::State;
use kiln_server::ops::{Kind, Metrics};

use crate::certificate::refusal::Rule;

/// Counters and states. All of this is written and read by one thread.
#[derive(Debug, Default)]
pub struct Status {
    nodes: AtomicBool,
    requests: AtomicBool,
    approved: AtomicU64,
    denied: Mutex<BTreeMap<Rule, u64>>,
    waiting: AtomicU64,
    errors: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Status {
    /// Records that all Nodes are known.
    pub fn nodes_known(&self) {
        self.nodes.store(true, Ordering::Relaxed);
    }

    /// True if all Nodes are known.
    pub fn has_nodes(&self) -> bool {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Records that all requests are known.
    pub fn requests_known(&self) {
        self.requests.store(true, Ordering::Relaxed);
    }

    /// Counts an approval.
    pub fn approved(&self) {
        self.approved.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a denial.
    pub fn denied(&self, rule: Rule) {
        *self.denied.lock().unwrap_or_else(PoisonError::into_inner).entry(rule).or_default() += 1;
    }

    /// Records the number of requests that wait.
    pub fn waiting(&self, count: usize) {
        self.waiting.store(count as u64, Ordering::Relaxed);
    }

    /// Records a failed call. A fault is logged once, and again when one with another cause follows.
    pub fn fails(&self, action: &str, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let cause = error.root_cause().to_string();
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.as_ref() != Some(&cause) {
            tracing::warn!("{action}: {error:#}; retrying");
            *fault = Some(cause);
        }
    }

    /// Records a call that worked.
    pub fn works(&self) {
        if self.fault.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("the API server answers again");
        }
    }
}

impl State for Status {
    /// True if both lists are known and the last call worked.
    fn is_ready(&self) -> bool {
        let works = self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        works && self.has_nodes() && self.requests.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> String {
        let mut metrics = Metrics::new("kiln_node_controller_");
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let approved = number(&self.approved);
        metrics.add("approved_total", Kind::Counter, "Approved requests", approved);
        metrics.begin("denied_total", Kind::Counter, "Denied requests");
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in Rule::ALL {
            let count = denied.get(&rule).copied().unwrap_or_default();
            metrics.sample("denied_total", &[("rule", rule.name())], count);
        }
        metrics.add("waiting", Kind::Gauge, "Requests that wait", number(&self.waiting));
        metrics.add("errors_total", Kind::Counter, "Failed calls", number(&self.errors));
        metrics.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::Status;
    use crate::certificate::refusal::Rule;
    use kiln_controller::operations::State as _;

    #[test]
    fn the_program_is_ready_when_it_knows_everything_and_reaches_the_server() {
        let status = Status::default();
        assert!(!status.is_ready());
        status.nodes_known();
        status.requests_known();
        assert!(status.is_ready());
        status.fails("cannot watch", &anyhow::anyhow!("refused"));
        assert!(!status.is_ready());
        status.works();
        assert!(status.is_ready());
    }

    #[test]
    fn every_rule_has_a_sample() {
        let status = Status::default();
        status.denied(Rule::Usages);
        let text = status.metrics();
        assert!(text.contains("kiln_node_controller_denied_total{rule=\"WrongUsages\"} 1\n"));
        assert_eq!(text.matches("denied_total{").count(), Rule::ALL.len());
    }
}
